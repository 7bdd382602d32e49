"""Archives made here by hand, independently of the packer, so that every fault can be planted."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from backports import zstd

from lading.digest import sha256_bytes
from lading.manifest.base import canonical_json
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.names import component_name, core_archive_name, index_name, libs_archive_name, volume_name
from lading.manifest.release import Asset, ComponentRecord, Provenance, Release, Requirements, TorchBuild
from lading.manifest.tree import tree_digest
from lading.verify import Verification, verify_packed

BLOCK = 512
Spoil = Callable[[tarfile.TarInfo], None]
CORE = {
    "server-cuda": b"\x7fELF" + bytes(5000),
    "_internal/app/main.pyc": b"code" * 300,
    "_internal/" + "x" * 120: b"long name",
}
LIBS = {"_internal/nvidia/cublas/lib/libcublas.so.12": bytes(range(256)) * 900, "_internal/empty": b""}


def asset(folder: Path, name: str, data: bytes) -> Asset:
    (folder / name).write_bytes(data)
    digest = sha256_bytes(data)
    (folder / f"{name}.sha256").write_text(f"{digest}  {name}\n")
    return Asset(name=name, size=len(data), sha256=digest)


def members(files: dict[str, bytes], links: dict[str, str], spoil: Spoil | None) -> list[tuple[IndexEntry, bytes, int]]:
    """Each entry without its place, its bytes in the tar, and the length of its header."""
    made = []
    for path, data in files.items():
        info = tarfile.TarInfo(path)
        info.size = len(data)
        info.mode = 0o755 if path == "server-cuda" else 0o644
        entry = IndexEntry(path=path, mode=info.mode, size=len(data), sha256=sha256_bytes(data), frame=0, offset=0)
        if spoil is not None:
            spoil(info)
        header = info.tobuf(format=tarfile.PAX_FORMAT)
        made.append((entry, header + data + bytes(-len(data) % BLOCK), len(header)))
    for path, target in links.items():
        info = tarfile.TarInfo(path)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        header = info.tobuf(format=tarfile.PAX_FORMAT)
        made.append((IndexEntry(path=path, type="link", target=target, frame=0, offset=0), header, len(header)))
    return made


def component(
    folder: Path,
    kind: str,
    files: dict[str, bytes],
    links: dict[str, str] | None = None,
    *,
    spoil: Spoil | None = None,
    end: bytes = bytes(2 * BLOCK),
    frame_size: int = 65536,
    volumes: int = 1,
) -> tuple[ComponentRecord, Index]:
    """Write a component's assets."""
    name = core_archive_name("app", "1.0.0", "cu126", "linux-x86_64")
    if kind == "libs":
        name = libs_archive_name("app", "cu126-v1", "linux-x86_64")
    entries: list[IndexEntry] = []
    frames: list[bytes] = []
    for entry, raw, header in members(files, links or {}, spoil):
        entries.append(entry.model_copy(update={"frame": len(frames), "offset": header}))
        frames += [raw[at : at + frame_size] for at in range(0, len(raw), frame_size)]
    frames.append(end)
    packed = [zstd.compress(raw) for raw in frames]
    index = Index(
        files=tuple(entries),
        frames=tuple(
            Frame(sha256=sha256_bytes(raw), raw=len(raw), size=len(stored))
            for raw, stored in zip(frames, packed, strict=True)
        ),
    )
    per = -(-len(packed) // volumes)
    pieces = [b"".join(packed[at : at + per]) for at in range(0, len(packed), per)]
    whole = b"".join(packed)
    record = ComponentRecord(
        app="app",
        component="core" if kind == "core" else "libs",
        version="1.0.0" if kind == "core" else "cu126-v1",
        flavor="cu126",
        platform="linux-x86_64",
        tree=tree_digest(entry.tree_entry() for entry in entries),
        files=len(entries),
        unpacked=sum(map(len, files.values())),
        size=len(whole),
        sha256=sha256_bytes(whole),
        index=asset(folder, index_name(name), zstd.compress(canonical_json(index))),
        volumes=tuple(
            asset(folder, volume_name(name, number, len(pieces)), piece) for number, piece in enumerate(pieces, 1)
        ),
        profile="fast",
        torch=TorchBuild(version="2.7.1+cu126", cuda="12.6", archs=("sm_90",)) if kind == "libs" else None,
    )
    (folder / component_name(name)).write_bytes(canonical_json(record))
    return record, index


def release_of(folder: Path, made: Sequence[tuple[ComponentRecord, Index]]) -> Path:
    release = Release(
        app="app",
        version="1.0.0",
        platform="linux-x86_64",
        flavor="cu126",
        entry="server-cuda",
        tree=tree_digest(entry.tree_entry() for _, index in made for entry in index.files),
        components=tuple(record for record, _ in made),
        requirements=Requirements(disk=1),
        provenance=Provenance(commit="x", epoch=0, python="3.11", pyinstaller="6", zstd="1.5", lading="0.1"),
    )
    path = folder / "app-1.0.0-cu126-linux-x86_64.release.json"
    path.write_bytes(canonical_json(release))
    return path


def whole_release(folder: Path, **libs: object) -> Path:
    made = [
        component(folder, "core", CORE, {"_internal/libcublas.so.12": "nvidia/cublas/lib/libcublas.so.12"}),
        component(folder, "libs", LIBS, **libs),  # type: ignore[arg-type]
    ]
    return release_of(folder, made)


def failures(report: Verification) -> dict[str, str]:
    return {check.name: check.reason for check in report.of("fail")}


@pytest.mark.parametrize("volumes", [1, 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_sound_release_passes_every_check(tmp_path: Path, volumes: int, threads: int) -> None:
    record = whole_release(tmp_path, volumes=volumes)
    report = verify_packed(tmp_path, record, threads=threads)
    assert failures(report) == {}
    assert {check.status for check in report.checks} == {"pass"}
    archive = next(check for check in report.checks if check.name == "archive-libs")
    assert archive.evidence["members"] == 2
    assert archive.evidence["volumes"] == volumes
    assert report.subject.version == "1.0.0"


def test_stock_tar_agrees_that_the_archives_are_tars(tmp_path: Path) -> None:
    whole_release(tmp_path, volumes=3)
    volumes = sorted(tmp_path.glob("*libs*.tar.zst.[0-9][0-9][0-9]"))
    raw = zstd.decompress(b"".join(path.read_bytes() for path in volumes))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert tar.getnames() == list(LIBS)


def test_a_flipped_byte_anywhere_in_an_archive_is_found(tmp_path: Path) -> None:
    record = whole_release(tmp_path)
    archive = next(tmp_path.glob("*libs*.tar.zst"))
    sound = archive.read_bytes()
    for position in range(0, len(sound), max(1, len(sound) // 40)):
        archive.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        found = failures(verify_packed(tmp_path, record, threads=1))
        assert "asset-digests" in found, position
        assert "archive-libs" in found, position
        assert "archive-core" not in found


def test_a_broken_frame_is_named_with_a_file_that_it_holds(tmp_path: Path) -> None:
    record = whole_release(tmp_path)
    archive = next(tmp_path.glob("*libs*.tar.zst"))
    data = bytearray(archive.read_bytes())
    data[20] ^= 0xFF
    archive.write_bytes(data)
    assert (
        "frame 0 (_internal/nvidia/cublas/lib/libcublas.so.12)"
        in failures(verify_packed(tmp_path, record))["archive-libs"]
    )


@pytest.mark.parametrize("cut", [1, 100, 700])
def test_a_truncated_archive_is_found(tmp_path: Path, cut: int) -> None:
    record = whole_release(tmp_path)
    archive = next(tmp_path.glob("*libs*.tar.zst"))
    archive.write_bytes(archive.read_bytes()[:-cut])
    report = verify_packed(tmp_path, record)
    assert "bytes, the release says" in failures(report)["assets-present"]
    assert {check.name: check.reason for check in report.of("skipped")} == {
        "asset-digests": "because assets-present failed",
        "archive-core": "because assets-present failed",
        "archive-libs": "because assets-present failed",
    }


def test_missing_assets_and_checksum_files_are_named(tmp_path: Path) -> None:
    record = whole_release(tmp_path)
    next(tmp_path.glob("*libs*.index.zst")).unlink()
    next(tmp_path.glob("*core*.tar.zst.sha256")).unlink()
    found = failures(verify_packed(tmp_path, record))
    assert "libs-cu126-v1-linux-x86_64.index.zst is missing" in found["assets-present"]
    assert "core-1.0.0-cu126-linux-x86_64.tar.zst.sha256 is missing" in found["checksum-files"]
    assert "index-libs" in found


@pytest.mark.parametrize("text", ["", "0" * 64, "not a digest  name\n"])
def test_a_wrong_checksum_file_is_found(tmp_path: Path, text: str) -> None:
    record = whole_release(tmp_path)
    next(tmp_path.glob("*core*.tar.zst.sha256")).write_text(text)
    assert failures(verify_packed(tmp_path, record)).keys() == {"checksum-files"}


def set_field(name: str, value: object) -> Spoil:
    return lambda info: setattr(info, name, value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (set_field("mtime", 1_700_000_000), "time is 1700000000, should be 0"),
        (set_field("uid", 1000), "owner is (1000, 0, '', '')"),
        (set_field("uname", "builder"), "owner is (0, 0, 'builder', '')"),
        (set_field("mode", 0o600), "mode is 0600, should be 0644"),
        (set_field("mode", 0o4755), "mode is 4755"),
        (set_field("pax_headers", {"comment": "hello"}), "carries pax headers ['comment']"),
    ],
)
def test_a_tar_that_is_not_in_normal_form_is_found_although_all_digests_agree(
    tmp_path: Path, spoil: Spoil, words: str
) -> None:
    record = whole_release(tmp_path, spoil=spoil)
    found = failures(verify_packed(tmp_path, record))
    assert found.keys() == {"archive-libs"}
    assert words in found["archive-libs"]


@pytest.mark.parametrize("end", [bytes(BLOCK), bytes(3 * BLOCK), bytes(2 * BLOCK) + b"hidden".ljust(BLOCK, b"\0")])
def test_a_tar_must_end_with_two_zero_blocks_and_nothing_after_them(tmp_path: Path, end: bytes) -> None:
    record = whole_release(tmp_path, end=end)
    found = failures(verify_packed(tmp_path, record))
    assert "with two zero blocks at its end" in found["archive-libs"]


def rewrite_index(folder: Path, change: Callable[[Index], Index]) -> Path:
    """Change the libs' index, and make every record above it agree with the change."""
    core = component(folder, "core", CORE)
    record, index = component(folder, "libs", LIBS)
    changed = change(index)
    stored = asset(folder, record.index.name, zstd.compress(canonical_json(changed)))
    entries = [entry.tree_entry() for entry in changed.files]
    update = {
        "index": stored, "tree": tree_digest(entries), "files": len(entries),
        "unpacked": sum(entry.size for entry in entries),
    }  # fmt: skip
    return release_of(folder, [core, (record.model_copy(update=update), changed)])


def test_an_index_that_names_another_digest_is_found(tmp_path: Path) -> None:
    def change(index: Index) -> Index:
        first = index.files[0].model_copy(update={"sha256": hashlib.sha256(b"other").hexdigest()})
        return index.model_copy(update={"files": (first, *index.files[1:])})

    found = failures(verify_packed(tmp_path, rewrite_index(tmp_path, change)))
    assert found == {"archive-libs": f"{next(iter(LIBS))}: its SHA-256 is not the one of the index"}


def test_an_index_that_puts_a_file_elsewhere_is_found(tmp_path: Path) -> None:
    def change(index: Index) -> Index:
        first = index.files[0].model_copy(update={"offset": 0})
        return index.model_copy(update={"files": (first, *index.files[1:])})

    found = failures(verify_packed(tmp_path, rewrite_index(tmp_path, change)))
    assert "its data is not where the index says" in found["archive-libs"]


def test_an_index_with_a_file_too_few_or_in_another_order_is_found(tmp_path: Path) -> None:
    less = rewrite_index(tmp_path, lambda index: index.model_copy(update={"files": index.files[:1]}))
    assert "the archive has this member, the index has not" in failures(verify_packed(tmp_path, less))["archive-libs"]
    turned = rewrite_index(tmp_path, lambda index: index.model_copy(update={"files": index.files[::-1]}))
    assert "the index says _internal/empty" in failures(verify_packed(tmp_path, turned))["archive-libs"]


def test_an_index_that_is_no_index_is_found(tmp_path: Path) -> None:
    record = whole_release(tmp_path)
    path = next(tmp_path.glob("*core*.index.zst"))
    path.write_bytes(zstd.compress(b"{}"))
    assert "is not a valid Index record" in failures(verify_packed(tmp_path, record))["index-core"]
    path.write_bytes(b"no zstd")
    assert "cannot be decompressed" in failures(verify_packed(tmp_path, record))["index-core"]


def test_a_file_in_both_components_is_found(tmp_path: Path) -> None:
    made = [
        component(tmp_path, "core", CORE),
        component(tmp_path, "libs", {**LIBS, "_internal/app/main.pyc": b"again"}),
    ]
    found = failures(verify_packed(tmp_path, release_of(tmp_path, made)))
    assert "_internal/app/main.pyc is in both components" in found["whole-tree"]


def test_a_release_whose_entry_is_not_in_the_tree_is_found(tmp_path: Path) -> None:
    core = {path: data for path, data in CORE.items() if path != "server-cuda"}
    made = [component(tmp_path, "core", core), component(tmp_path, "libs", LIBS)]
    found = failures(verify_packed(tmp_path, release_of(tmp_path, made)))
    assert "the entry server-cuda is not an executable file" in found["whole-tree"]


@pytest.mark.parametrize("data", [b"", b"{", b'{"schema": "lading/release/99"}'])
def test_a_release_record_that_cannot_be_read_fails_and_the_rest_is_skipped(tmp_path: Path, data: bytes) -> None:
    record = whole_release(tmp_path)
    record.write_bytes(data)
    report = verify_packed(tmp_path, record)
    assert failures(report).keys() == {"release-record"}
    assert len(report.of("skipped")) == len(report.checks) - 1


def test_a_release_record_that_is_not_canonical_is_found(tmp_path: Path) -> None:
    record = whole_release(tmp_path)
    record.write_bytes(record.read_bytes().replace(b'{"app"', b'{ "app"', 1))
    assert "canonical form" in failures(verify_packed(tmp_path, record))["release-record"]


def test_libs_that_were_published_before_are_found_where_they_lie(tmp_path: Path) -> None:
    record = whole_release(tmp_path)
    for place in ("elsewhere", "store/assets/libs/cu126-v1"):
        target = tmp_path / place
        target.mkdir(parents=True)
        for path in tmp_path.rglob("*libs*"):
            if path.is_file():
                path.rename(target / path.name)
        also = tmp_path / place.split("/")[0]
        assert failures(verify_packed(tmp_path, record, also=[also])) == {}
        assert "assets-present" in failures(verify_packed(tmp_path, record))
