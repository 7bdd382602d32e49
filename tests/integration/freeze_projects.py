"""Small servers to freeze, with one dependency that is made here: wheels, hash locks, manifests, sources.

The dependency brings what real ones bring: modules, metadata that the program reads, and two shared libraries, one of
which needs the other, so that PyInstaller makes a link.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from lading.freeze.freeze import FreezeResult, freeze
from lading.host.platform import this_platform
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.project import load_project
from lading.process import Finished, run, scrubbed_environment
from lading.progress import Silent

ROOT = Path(__file__).resolve().parents[2]
CC = shutil.which("gcc") or shutil.which("cc")

APP_YAML = """\
schema: lading/app/1
name: tiny-server
version_from: server/tiny_server/_version.py
entry: server/tiny_server/__main__.py
import_roots: [server]
packages: [tiny_server]
executable:
  cpu: tiny-server
  cuda: tiny-server-cuda
python: ">=3.11,<3.14"
requirements: build/requirements/server.in
freeze_lock: build/requirements/freeze.txt
cpu_locks:
  {platform}: build/requirements/cpu.txt
"""

SOURCES = {
    "server/tiny_server/__init__.py": "",
    "server/tiny_server/_version.py": '__version__ = "1.2.3"\n',
    "server/tiny_server/__main__.py": """\
        from tiny_server.entry import main

        if __name__ == "__main__":
            raise SystemExit(main())
        """,
    "server/tiny_server/entry.py": """\
        import json
        import sys

        from tiny_server._version import __version__
        from tiny_server.selftest import checks


        def main():
            if "--version" in sys.argv[1:]:
                print(f"tiny-server {__version__}")
                return 0
            found = checks()
            passed = all(check["status"] == "pass" for check in found)
            print(json.dumps({"passed": passed, "checks": found}))
            return 0 if passed else 1
        """,
    "server/tiny_server/selftest.py": """\
        import ctypes
        import sys
        from pathlib import Path

        import tinydep
        from tiny_server import words

        try:
            import packaging
        except ImportError:
            packaging = None


        def library():
            folder = Path(tinydep.__file__).parent
            return ctypes.CDLL(str(folder / "libtiny.so")).tiny() if sys.platform == "linux" else 42


        def checks():
            results = {
                "dependency": tinydep.double(21) == 42,
                "metadata": tinydep.known_version() == "1.0",
                "library": not (Path(tinydep.__file__).parent / "libtiny.so").exists() or library() == 42,
                "words": words.greeting("hello") == "hello, world",
                "nothing beside": packaging is None,
            }
            return [
                {"name": name, "status": "pass" if good else "fail", "reason": f"{name} is {good}"}
                for name, good in results.items()
            ]
        """,
    # What a compiler may store in more than one order or form: sets, shared strings, nested code.
    "server/tiny_server/words.py": """\
        from dataclasses import dataclass

        POLITE = frozenset({"please", "thanks", "sorry", "hello", "world"})


        @dataclass(frozen=True)
        class Word:
            text: str
            weight: float = 0.5

            def shout(self) -> str:
                def louder(text):
                    return text.upper() + "!"

                return louder(self.text)


        def greeting(word):
            if word in {"hello", "world", "please", "thanks", "sorry"}:
                return f"{word}, world"
            return " ".join(sorted(POLITE))
        """,
    "build/hooks/hook-tinydep.py": """\
        from PyInstaller.utils.hooks import collect_dynamic_libs

        binaries = collect_dynamic_libs("tinydep")
        """,
}

DEPENDENCY = {
    "tinydep/__init__.py": """\
        import importlib.metadata


        def double(number):
            return 2 * number


        def known_version():
            return importlib.metadata.version("tinydep")
        """,
    "tinydep/unused.py": "import tinydep\n",
}


def compiled(folder: Path, name: str, source: str, *flags: str) -> Path:
    """Compile a shared library.

    Args:
        folder: Where it is made.
        name: Its file name.
        source: C.
        flags: Further flags of the compiler.
    """
    assert CC is not None
    folder.mkdir(parents=True, exist_ok=True)
    code = folder / f"{name}.c"
    code.write_text(source)
    command = [CC, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(code), *flags]
    subprocess.run(command, check=True, capture_output=True)
    code.unlink()
    return folder / name


def native_libraries(folder: Path) -> dict[str, bytes]:
    """``libtiny.so``, which needs ``libtinybase.so`` beside it; nothing where there is no compiler for ELF."""
    if CC is None or os.name != "posix":
        return {}
    base = compiled(folder, "libtinybase.so", "int base(void) { return 40; }\n")
    source = "int base(void);\nint tiny(void) { return base() + 2; }\n"
    top = compiled(folder, "libtiny.so", source, f"-L{folder}", "-ltinybase", "-Wl,-rpath,$ORIGIN")
    return {f"tinydep/{path.name}": path.read_bytes() for path in (base, top)}


def make_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str | bytes], requires: tuple[str, ...] = ()
) -> Path:
    """Write a wheel, the same bytes for the same arguments.

    Args:
        folder: Where it is written.
        name: The distribution.
        version: Its version.
        files: Its files by path.
        requires: Its requirements.
    """
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata = "\n".join([*lines, *(f"Requires-Dist: {line}" for line in requires), ""])
    plain = {path: dedent(text).encode() if isinstance(text, str) else text for path, text in files.items()}
    plain[f"{info}/METADATA"] = metadata.encode()
    plain[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{path},{_record_digest(data)},{len(data)}" for path, data in plain.items()] + [f"{info}/RECORD,,"]
    plain[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in plain.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data)
    return wheel


def _record_digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def pin(wheel: Path) -> str:
    """The line of a hash lock for a wheel."""
    name, version = wheel.name.split("-")[:2]
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@dataclass(frozen=True, kw_only=True)
class TinyProject:
    """A project's folder, with short ways to change it."""

    root: Path

    def write(self, path: str, text: str | bytes) -> Path:
        """Write one of its files."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(dedent(text).encode() if isinstance(text, str) else text)
        return target

    def read(self, path: str) -> str:
        """Read one of its files."""
        return (self.root / path).read_text(encoding="utf-8")

    def change(self, path: str, old: str, new: str) -> None:
        """Replace a text that occurs in a file."""
        text = self.read(path)
        assert old in text
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def manifest(self, more: str) -> None:
        """Add keys to ``app.yaml``."""
        (self.root / "manifests/app.yaml").write_text(
            APP_YAML.format(platform=this_platform()) + dedent(more), encoding="utf-8"
        )


def make_project(root: Path, lock: str) -> TinyProject:
    """Write a project.

    Args:
        root: Its folder.
        lock: The text of its hash lock.
    """
    project = TinyProject(root=root)
    for path, text in SOURCES.items():
        project.write(path, text)
    project.write("build/server.spec", (ROOT / "build/server.spec").read_bytes())
    project.write("build/requirements/freeze.txt", (ROOT / "build/requirements/freeze.txt").read_bytes())
    project.write("build/requirements/server.in", "tinydep\n")
    project.write("build/requirements/cpu.txt", lock)
    (root / "manifests").mkdir()
    project.manifest("")
    return project


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where small projects are frozen: wheels to install from, and one environment that is made once.

    Attributes:
        folder: Everything is below it.
        wheel: The dependency.
    """

    folder: Path
    wheel: Path

    @property
    def environments(self) -> Path:
        """The environments that projects share."""
        return self.folder / "env"

    def project(self, root: Path) -> TinyProject:
        """Write a project that locks the dependency."""
        return make_project(root, pin(self.wheel))

    def out(self, folder: Path) -> Path:
        """A fresh folder for build outputs with the shared environments."""
        folder.mkdir(parents=True)
        (folder / "env").symlink_to(self.environments, target_is_directory=True)
        return folder

    def freeze(self, project: TinyProject, out: Path, toolkit: str | None = None, **options: bool) -> FreezeResult:
        """Freeze as ``lading freeze`` does."""
        loaded = load_project(project.root)
        wanted = loaded.toolkit(toolkit) if toolkit else None
        return freeze(loaded, wanted, out, platform=this_platform(), progress=Silent(), **options)


def make_workshop(folder: Path) -> Workshop:
    """Make the dependency's wheel; the environment is made by the first freeze."""
    native = native_libraries(folder / "native")
    wheel = make_wheel(folder / "wheels", "tinydep", "1.0", {**DEPENDENCY, **native})
    (folder / "env").mkdir()
    return Workshop(folder=folder, wheel=wheel)


def contents(info: BuildInfo) -> dict[str, tuple[int | None, str | None, str | None]]:
    """What a tree is, byte for byte: mode, digest and link target of each path."""
    return {entry.path: (entry.mode, entry.sha256, entry.target) for entry in info.files}


def say(result_tree: Path, *words: str, entry: str = "tiny-server") -> Finished:
    """Run a frozen program as its users do."""
    return run([result_tree / entry, *words], cwd=result_tree, environment=scrubbed_environment(), timeout=60)
