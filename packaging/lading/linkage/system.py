"""The short list of libraries that a release may expect from the host, each with its reason.

Everything else has to be in the tree. ``libstdc++``, ``libgcc_s`` and ``libgomp`` are left out on purpose: hosts carry
versions of their own, and a release brings the one that it was built with.
"""

from __future__ import annotations

import re

from lading.manifest.base import OperatingSystem

_GLIBC = "part of glibc, which must fit the host's kernel and name service; its lowest version is checked apart"
_DRIVER = "comes with the NVIDIA driver and must match the kernel module"

LINUX: dict[str, str] = {
    r"ld-linux[\w-]*\.so\.[0-9]+": _GLIBC,
    r"ld64\.so\.[0-9]+": _GLIBC,
    r"linux-vdso\.so\.1": "mapped by the kernel",
    r"lib(c|m|mvec|dl|pthread|rt|util|resolv|anl|nsl|crypt|thread_db|BrokenLocale)\.so\.[0-9.]+": _GLIBC,
    r"libcuda\.so(\.[0-9.]+)?": _DRIVER,
    r"libnvidia-[\w-]+\.so(\.[0-9.]+)?": _DRIVER,
    r"libnvcuvid\.so(\.[0-9.]+)?": _DRIVER,
    r"libcudadebugger\.so(\.[0-9.]+)?": _DRIVER,
}

_WINDOWS_NAMES = """
    advapi32 authz avicap32 avrt bcrypt bcryptprimitives cabinet cfgmgr32 combase comctl32 comdlg32 credui crypt32
    cryptbase cryptsp d2d1 d3d11 d3d12 d3d9 d3dcompiler_47 dbghelp dcomp dnsapi dsound dwmapi dwrite dxgi dxva2
    evr fwpuclnt gdi32 gdi32full gdiplus glu32 hid httpapi imagehlp imm32 iphlpapi kernel32 kernelbase ksuser
    mf mfplat mfreadwrite mmdevapi mpr msacm32 msi msimg32 mswsock msvcrt msvfw32 ncrypt netapi32 newdev normaliz
    ntdll ole32 oleacc oleaut32 opengl32 pdh powrprof propsys psapi rasapi32 resutils rpcrt4 samcli secur32
    sechost setupapi shcore shell32 shfolder shlwapi sspicli synchronization tdh ucrtbase urlmon user32 userenv
    usp10 uxtheme version webio wer wevtapi windowscodecs winhttp wininet winmm winscard winspool wintrust wldap32
    wlanapi ws2_32 wsock32 wtsapi32 xinput1_4 xmllite
""".split()  # noqa: SIM905 (a hundred names are read best as prose)

WINDOWS: dict[str, str] = {
    r"api-ms-win-[\w-]+\.dll": "an API set, answered by Windows itself (the universal C runtime is part of Windows 10)",
    r"ext-ms-win-[\w-]+\.dll": "an API set that only some editions of Windows answer; callers expect that",
    rf"(?:{'|'.join(_WINDOWS_NAMES)})\.(?:dll|drv)": "part of every supported Windows",
    r"(?:nvcuda|nvml|nvapi64|nvcuvid|nvencodeapi64|nvoptix|cudadebugger_1)\.dll": _DRIVER,
}

_COMPILED = {
    "linux": [(re.compile(pattern), reason) for pattern, reason in LINUX.items()],
    "windows": [(re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in WINDOWS.items()],
}


def system_reason(name: str, system: OperatingSystem) -> str | None:
    """Why a library may come from the host.

    Args:
        name: The needed name, such as ``libc.so.6`` or ``KERNEL32.dll``.
        system: Whose list.

    Returns:
        The reason, or none when the library has to be in the tree.
    """
    return next((reason for pattern, reason in _COMPILED[system] if pattern.fullmatch(name)), None)


def driver_library(name: str) -> bool:
    """Whether the library is one that only the NVIDIA driver provides (either system)."""
    return _DRIVER in {system_reason(name, "linux"), system_reason(name, "windows")}
