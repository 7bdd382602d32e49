"""What embedding the client costs a frozen program, and that it works there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program
from tests.range_server import serving

from lading.freeze.owners import Sources, owner_of
from lading.freeze.settings import Collected
from lading.hooks import COPIES, hook_folders, without_symbols
from lading.manifest.buildinfo import OWNER_APP
from lading.process import run, scrubbed_environment

FREEZE_SECONDS = 300
BUDGET = 25_000_000  # bytes on disk

PLAIN = """\
import json
import sys

print(json.dumps({"version": list(sys.version_info[:2])}))
"""
EMBEDDING = """\
import json
import sys
from pathlib import Path

from lading.client import Client

data, source, root, app = sys.argv[1:]
client = Client(Path(data), source=source, root=Path(root).read_bytes(), app=app)
events = []
change = client.update if client.status().variants else client.install
found = change(on_progress=events.append)
print(json.dumps({"result": found.model_dump(mode="json"), "last": events[-1].kind, "check": client.check().reason}))
"""
CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 60_000}


def size_of(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())


@dataclass(frozen=True)
class Frozen:
    """Both programs."""

    plain: Path
    embedding: Path

    @property
    def program(self) -> Path:
        return next(path for name in ("embedding", "embedding.exe") if (path := self.embedding / name).is_file())


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    work = tmp_path_factory.mktemp("embedding")
    for name, text in (("plain", PLAIN), ("embedding", EMBEDDING)):
        (work / f"{name}.py").write_text(text)
        argv: list[str | Path] = [sys.executable, "-m", "PyInstaller", "--onedir", "--noconfirm", "--log-level", "WARN"]
        argv += ["--distpath", work / "dist", "--workpath", work / "work", "--specpath", work, work / f"{name}.py"]
        done = run(
            argv,
            cwd=work,
            environment=scrubbed_environment(),
            timeout=FREEZE_SECONDS,
        )
        assert done.returncode == 0, done.stderr
    return Frozen(plain=work / "dist" / "plain", embedding=work / "dist" / "embedding")


def test_embedding_the_client_costs_at_most_25_megabytes(frozen: Frozen) -> None:
    more = size_of(frozen.embedding) - size_of(frozen.plain)

    print(f"the client adds {more / 1e6:.1f} MB to a frozen program of {size_of(frozen.plain) / 1e6:.1f} MB")
    assert 5_000_000 < more <= BUDGET


def test_a_frozen_program_installs_and_updates_itself_a_server(frozen: Frozen, tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.release("0.1.0", CORE)
    root = tmp_path / "root.json"
    root.write_bytes(shop.root)

    def call(data: Path, source: str) -> dict[str, object]:
        argv: list[str | Path] = [frozen.program, data, source, root, APP]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        told: dict[str, object] = json.loads(done.stdout)
        return told

    first = call(tmp_path / "from-folder", str(shop.store))
    assert isinstance(first["result"], dict)
    assert subprocess.run([first["result"]["entry"]], capture_output=True, check=True).stdout == b"one\n"
    assert (first["last"], first["check"]) == ("result", "up to date")

    with serving(shop.store) as server:
        assert call(tmp_path / "over-http", server.url)["last"] == "result"
        shop.release("0.2.0", {**CORE, ENTRY: program("two")})
        updated = call(tmp_path / "over-http", server.url)
    assert isinstance(updated["result"], dict)
    variant = updated["result"]["variants"][0]
    assert (variant["outcome"], variant["installed"], variant["newest"]) == ("updated", "0.1.0", "0.2.0")
    assert subprocess.run([variant["result"]["entry"]], capture_output=True, check=True).stdout == b"two\n"


def test_a_frozen_program_says_what_is_wrong_with_a_repository(frozen: Frozen, tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.release("0.1.0", CORE)
    (tmp_path / "root.json").write_bytes(shop.root)
    timestamp = shop.store / "metadata" / "timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes().replace(b'"sig":"', b'"sig":"00'))

    argv: list[str | Path] = [frozen.program, tmp_path / "data", shop.store, tmp_path / "root.json", APP]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "lading.errors.SignatureInvalid" in done.stderr
    assert not (tmp_path / "data" / "backends" / "cpu" / "current").exists()


# --- the hooks --------------------------------------------------------------------------------------------------------


@dataclass
class Search:
    """What PyInstaller asks with."""

    module_name: str
    search_dirs: list[str]


def installed(module: str) -> Path:
    import importlib.util  # noqa: PLC0415 (one use)

    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux wheels carry symbols")
def test_a_module_without_its_symbols_is_smaller_and_loads(tmp_path: Path) -> None:
    original = installed("zstandard.backend_c")
    search = Search("zstandard.backend_c", [str(original.parent)])

    without_symbols(search, work=tmp_path)

    copy = Path(search.search_dirs[0], original.name)
    assert copy.stat().st_size < original.stat().st_size / 2
    script = f"import importlib.util as u; s = u.spec_from_file_location('zstandard.backend_c', {str(copy)!r})\n"
    script += "m = u.module_from_spec(s); s.loader.exec_module(m); print(m.__file__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(copy)


def test_lading_freeze_knows_whose_the_copies_are(tmp_path: Path) -> None:
    name = "hdiffpatch/_c_extension.so"
    known = Sources(
        by_path={}, by_module={name: "hdiffpatch"}, import_roots=(tmp_path / "src",), packages=("demo",),
        project=tmp_path, stdlib=tmp_path / "python", base_prefix=tmp_path / "python",
    )  # fmt: skip
    copy = tmp_path / "work" / COPIES / "hdiffpatch._c_extension" / "_c_extension.so"

    assert owner_of(Collected(path=name, source=str(copy), typecode="EXTENSION"), known) == "hdiffpatch"
    assert owner_of(Collected(path="other.so", source=str(copy), typecode="EXTENSION"), known) == OWNER_APP


def test_a_module_that_is_not_there_is_left_to_pyinstaller(tmp_path: Path) -> None:
    search = Search("hdiffpatch._c_extension", [str(tmp_path)])

    without_symbols(search, work=tmp_path)

    assert search.search_dirs == [str(tmp_path)]


def test_pyinstaller_finds_the_hooks_by_the_entry_point() -> None:
    from importlib.metadata import entry_points  # noqa: PLC0415 (one use)

    places = {folder for entry in entry_points(group="pyinstaller40", name="hook-dirs") for folder in entry.load()()}

    assert set(hook_folders()) <= places
    assert Path(hook_folders()[0], "hook-securesystemslib.py").is_file()
    assert Path(hook_folders()[0], "pre_find_module_path", "hook-zstandard.backend_c.py").is_file()
