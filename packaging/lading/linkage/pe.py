"""Read what the Windows loader reads of a DLL or program: its machine, imports and delay imports.

The file is mapped, not read: only the headers and import tables are touched, and the names of the imported libraries
alone, not their functions.

Does not: follow manifests, forwarders or API sets, or decide what an import resolves to.
"""

from __future__ import annotations

from pathlib import Path

import pefile

from lading.linkage.elf import BrokenObject
from lading.linkage.record import SharedObject

MAGIC = b"MZ"
_IMPORTS = pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_IMPORT"]
_DELAYED = pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT"]


def read_pe(path: Path, name: str | None = None) -> SharedObject | None:
    """Read a PE file's import information.

    Args:
        path: The file.
        name: Its path in the tree; the file's own name when none.

    Returns:
        The record, or none when the file is not PE (an old DOS program is not).

    Raises:
        BrokenObject: It begins like PE and is damaged or cut off.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
        if len(head) < 64 or head[:2] != MAGIC:  # noqa: PLR2004 (the length of a DOS header)
            return None
        stream.seek(int.from_bytes(head[60:64], "little"))
        if stream.read(4) != b"PE\0\0":
            return None
    try:
        with pefile.PE(str(path), fast_load=True) as image:
            return _parse(image, path, name or path.name)
    except (pefile.PEFormatError, ValueError) as error:
        raise BrokenObject(f"{name or path}: not a readable PE file: {error}") from error


def _parse(image: pefile.PE, path: Path, name: str) -> SharedObject:
    end = max((part.PointerToRawData + part.SizeOfRawData for part in image.sections), default=0)
    if (have := path.stat().st_size) < end:
        message = f"it has {have:,} bytes, its sections need {end:,}"
        raise ValueError(message)
    image.parse_data_directories(directories=[_IMPORTS, _DELAYED], import_dllnames_only=True)
    machine = pefile.MACHINE_TYPE.get(image.FILE_HEADER.Machine, hex(image.FILE_HEADER.Machine))
    return SharedObject(
        path=name,
        format="pe",
        machine=str(machine),
        needed=_names(image, "DIRECTORY_ENTRY_IMPORT"),
        delayed=_names(image, "DIRECTORY_ENTRY_DELAY_IMPORT"),
    )


def _names(image: pefile.PE, directory: str) -> tuple[str, ...]:
    entries = getattr(image, directory, ())
    return tuple(dict.fromkeys(entry.dll.decode("ascii", "replace") for entry in entries if entry.dll))
