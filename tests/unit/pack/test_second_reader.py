"""The format's page is enough to write another reader: one that was, reads what the packer writes."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import get_args

import pytest
from backports import zstd
from tests.unit.pack import second_reader
from tests.unit.pack.trees import CORE, LIBS, ROOT, Desk, Files, Link, Program, archive_bytes, code, noise, owner_of

from lading.manifest.base import canonical_json
from lading.manifest.index import FRAME_LIMIT, Frame, Index, IndexEntry
from lading.manifest.patchfile import MAGIC, Method, PatchHeader
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry, tree_digest
from lading.pack.layout import GROUP, LEAST, SMALL, TYPICAL
from lading.pack.pack import PackOptions, PackResult
from lading.pack.volumes import LEAST_LIMIT

PAGE = (ROOT / "docs" / "reference" / "format.md").read_text("utf-8")
FILES: Files = {
    **CORE,
    **LIBS,
    "_internal/nvidia/large.so": noise(40 * 2**20, "large"),
    **{f"_internal/demo/module{number}.pyc": code(f"m{number}") for number in range(400)},
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackResult:
    """A release with libs in two volumes and a file over two frames."""
    desk = Desk(tmp_path_factory.mktemp("second"))
    return desk.pack(FILES, options=PackOptions(volume_limit=LEAST_LIMIT))


def opened(result: PackResult, number: int) -> second_reader.Component:
    record = result.components[number].record
    return second_reader.Component(result.release_file.parent / record.index.name.replace(".index.zst", ".json"))


def test_the_second_reader_shares_nothing_with_the_first() -> None:
    tree = ast.parse(Path(second_reader.__file__).read_text("utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {name.partition(".")[0] for name in imported} <= {
        "__future__", "backports", "hashlib", "hdiffpatch", "json", "pathlib", "struct", "typing",
    }  # fmt: skip


def test_it_reads_every_file_of_both_components(packed: PackResult) -> None:
    core, libs = opened(packed, 0), opened(packed, 1)

    assert len(libs.record["volumes"]) == 2
    assert core.files() | libs.files() == {
        path: content.data if isinstance(content, Program) else content
        for path, content in FILES.items()
        if not isinstance(content, Link)
    }
    entries = {entry["path"]: entry for part in (core, libs) for entry in part.index["files"]}
    assert {path: entry["target"] for path, entry in entries.items() if entry["type"] == "link"} == {
        path: content.target for path, content in FILES.items() if isinstance(content, Link)
    }
    assert {path for path, entry in entries.items() if entry["mode"] == "0755"} == {
        path for path, content in FILES.items() if isinstance(content, Program)
    }
    release = json.loads(packed.release_file.read_bytes())
    assert second_reader.tree_digest(list(entries.values())) == release["tree"]


def test_it_applies_a_patch(desk: Desk) -> None:
    old = desk.pack({**CORE, **LIBS}, "0.9.0", out="old")
    changed: Files = {
        **CORE, **LIBS, "_internal/demo/app.pyc": code("app") + b"!", "_internal/demo/new.pyc": code("new"),
        "_internal/libz.so.1": Program(noise(9_000, 3)[::-1]), "_internal/demo/moved.zip": noise(20_000, 2),
    }  # fmt: skip
    options = PackOptions(previous=(desk.folder / "old",), patches=1)
    new = desk.pack(changed, "1.0.0", options=options)
    patch = (desk.folder / "out" / new.release.patches[0].asset.name).read_bytes()

    index, files = second_reader.apply_patch(patch, opened(old, 0))

    assert index == opened(new, 0).index_bytes
    assert files == opened(new, 0).files()


# --- the page says what is so -----------------------------------------------------------------------------------------


def section(heading: str) -> str:
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,3}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[2]


def keys(heading: str, number: int = 0) -> set[str]:
    """The names in the first column of a table."""
    tables = re.findall(r"(?:^\|.*\n)+", section(heading), re.MULTILINE)
    rows = tables[number].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])}


def fields(kind: type[Index | IndexEntry | Frame | ComponentRecord | PatchHeader]) -> set[str]:
    return {field.alias or name for name, field in kind.model_fields.items()}


def test_the_tables_name_every_field() -> None:
    assert keys("The index", 0) == fields(Index)
    assert keys("The index", 1) == fields(IndexEntry)
    assert keys("The index", 2) == fields(Frame)
    assert keys("Component and release records") == fields(ComponentRecord)
    assert keys("Patches", 1) == fields(PatchHeader)
    methods = set(re.findall(r"^\| `([a-z-]+)` \| (?:one|an) ", section("Patches"), re.MULTILINE))
    assert methods == set(get_args(Method))


def test_the_numbers_of_the_page_are_those_of_the_program() -> None:
    assert f"at most {FRAME_LIMIT:,} bytes (32 MiB)" in PAGE
    assert (SMALL, GROUP, LEAST, TYPICAL) == (2**20, 2**20, 256 * 2**10, 524288)
    for kind, schema in (
        (Index, "index"),
        (ComponentRecord, "component"),
        (Release, "release"),
        (PatchHeader, "patch"),
    ):
        assert f"`lading/{schema}/1`" in PAGE
        assert kind.model_fields["schema_"].default == f"lading/{schema}/1"
        assert (ROOT / "manifests" / "schema" / f"{schema}.schema.json").exists()
    assert MAGIC == b"LADPAT1\n"


def test_the_worked_example_of_the_tree_digest_is_right() -> None:
    blocks = re.findall(r"```text\n(.*?)```", section("Tree digest"), re.DOTALL)
    lines, digest = blocks[-2], blocks[-1].strip()
    entries = []
    for line in lines.splitlines():
        kind, rest = line.split(" ", 1)
        if kind == "l":
            path, target = rest.split("\\0")
            entries.append(TreeEntry(path=path, type="link", target=target))
        else:
            mode, size, sha256, path = rest.split(" ", 3)
            entries.append(TreeEntry(path=path, mode=int(mode, 8), size=int(size), sha256=sha256))

    assert len(entries) == 4
    assert tree_digest(entries) == digest
    assert tree_digest(reversed(entries)) == digest


def test_an_entry_has_the_keys_that_the_page_gives_it(packed: PackResult) -> None:
    index = opened(packed, 0).index

    for entry in index["files"]:
        kind = "sha256" if entry["type"] == "file" else "target"
        assert set(entry) == {"path", "type", "mode", "size", "frame", "offset", kind}


def regrouped(archive: bytes) -> list[int]:
    """Raw bytes of each frame, found anew by the page's four rules from the tar and the files' owners."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = [(info.name, info.offset) for info in tar.getmembers()]
    ends = [*(offset for _, offset in found[1:]), len(archive) - 1024]
    members = [(owner_of(path), path, end - start) for (path, start), end in zip(found, ends, strict=True)]
    assert members == sorted(members, key=lambda member: (member[0], member[1].encode()))
    frames: list[int] = []
    group, before = 0, ""
    for owner, path, size in members:
        number = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big")
        says_so = group >= 256 * 1024 and number < size * 2**64 // 524288
        if group and (size > 2**20 or owner != before or group + size > 2**20 or says_so):
            frames.append(group)
            group = 0
        if size > 2**20:
            frames += [2**25] * (size // 2**25) + [size % 2**25] * bool(size % 2**25)
        else:
            group, before = group + size, owner
    return [*frames, *([group] if group else []), 1024]


def test_the_pages_rules_give_the_packers_frames(packed: PackResult) -> None:
    for number, name in enumerate(["core", "libs"]):
        raw = [frame["raw"] for frame in opened(packed, number).index["frames"]]
        archive = zstd.decompress(archive_bytes(packed, name))

        assert archive[-1024:] == bytes(1024)
        assert raw == regrouped(archive)
        assert len(raw) >= 6


def test_an_unknown_version_or_key_is_refused_by_both(packed: PackResult) -> None:
    record = packed.components[0].record
    for change in ({"schema": "lading/component/2"}, {"more": 1}):
        text = json.loads(canonical_json(record)) | change
        data = (json.dumps(text, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
        with pytest.raises(ValueError, match="unknown"):
            second_reader.record(data, "component")
        with pytest.raises(ValueError, match=r"schema|more"):
            ComponentRecord.model_validate_json(data)
