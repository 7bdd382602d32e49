"""The benchmark's peer does what it claims, and the measuring and reporting around it are right."""

from __future__ import annotations

import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from bench import fileserver, measure, report
from bench.peers import reference_way
from bench.rows.base import Context, Result, published_bytes, unable
from bench.rows.install import Install
from bench.rows.packing import PackFast, change_app
from bench.rows.upload import Upload
from rich.console import Console

from lading.manifest.base import canonical_json, read_record
from lading.manifest.buildinfo import BuildInfo, OwnedEntry
from lading.manifest.release import Provenance
from lading.publish import loopback

FILES = {
    "server": b"#!exe",
    "_internal/base_library.zip": b"zip",
    "_internal/torch/lib/libtorch_cuda.so": b"torch" * 100,
    "_internal/torch/lib/cublas64_12.dll": b"dll",
    "_internal/torch/cuda/nccl.pyc": b"stub",
    "_internal/nvidia/cublas/lib/libcublas.so.12": b"cublas" * 1000,
    "_internal/nvidia/cublas/__init__.pyc": b"",
    "_internal/libcudart.so.12": b"cudart",
    "_internal/app/main.pyc": b"pyc",
}


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name, data in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tree / "server").chmod(0o755)
    return tree


@pytest.mark.parametrize(
    ("path", "libs"),
    [
        ("_internal/nvidia/cublas/lib/libcublas.so.12", True),
        ("nvidia/x.txt", True),
        ("_internal/torch/lib/cublas64_12.dll", True),
        ("_internal/NVIDIA/a.dll", True),
        ("_internal/libcublas.so.12", False),
        ("_internal/torch/lib/libtorch_cuda.so", False),
        ("_internal/torch/cuda/nccl.py", False),
        ("_internal/mynvidia/x.so", False),
        ("nvidia", False),
    ],
)
def test_the_peer_splits_by_folder_and_name_as_the_common_rule_does(path: str, *, libs: bool) -> None:
    assert reference_way.is_nvidia(path) is libs


def test_both_archives_of_the_peer_together_are_the_tree(tree: Path, tmp_path: Path) -> None:
    packed = reference_way.pack(tree, tmp_path / "out")

    found: dict[str, bytes] = {}
    for name in (packed.core, packed.libs):
        with tarfile.open(tmp_path / "out" / name) as archive:
            for member in archive.getmembers():
                stream = archive.extractfile(member)
                assert stream is not None
                assert member.name not in found, "a file in both archives"
                found[member.name] = stream.read()
    assert found == FILES
    assert packed.size == sum((tmp_path / "out" / name).stat().st_size for name in (packed.core, packed.libs))
    record = json.loads((tmp_path / "out" / "cuda-libs.json").read_text())
    assert record["sha256"] == reference_way.sha256(tmp_path / "out" / packed.libs)


def test_the_peer_compresses_as_tarfile_does_unasked(tree: Path, tmp_path: Path) -> None:
    packed = reference_way.pack(tree, tmp_path)

    extra_flags = (tmp_path / packed.libs).read_bytes()[8]
    assert extra_flags == 2, "RFC 1952: 2 is the slowest, best level, which w:gz takes by default"


def test_the_peer_refuses_a_tree_without_nvidia_files(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "server").write_bytes(b"exe")

    with pytest.raises(SystemExit, match="no NVIDIA files"):
        reference_way.pack(tmp_path / "tree", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_peer_installs_the_tree_that_it_packed(tree: Path, tmp_path: Path) -> None:
    packed = reference_way.pack(tree, tmp_path / "out")

    with fileserver.serving(tmp_path / "out") as url:
        installed = reference_way.install(url, tmp_path / "into", [packed.core, packed.libs])

    assert content(tmp_path / "into") == FILES
    assert (tmp_path / "into" / "server").stat().st_mode & 0o111
    assert installed.size == packed.size


def test_the_peer_refuses_an_archive_whose_checksum_differs(tree: Path, tmp_path: Path) -> None:
    packed = reference_way.pack(tree, tmp_path / "out")
    with (tmp_path / "out" / packed.core).open("ab") as stream:
        stream.write(b"x")

    with fileserver.serving(tmp_path / "out") as url, pytest.raises(RuntimeError, match="SHA-256 is"):
        reference_way.install(url, tmp_path / "into", [packed.core])
    assert content(tmp_path / "into") == {}


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, (0, 10)),
        ("bytes=0-0", (0, 1)),
        ("bytes=3-", (3, 7)),
        ("bytes=3-99", (3, 7)),
        ("bytes=10-", None),
        ("bytes=0-1,4-5", (0, 10)),
        ("bytes=-3", (0, 10)),
    ],
)
def test_a_single_range_is_answered_and_anything_else_is_the_whole_file(
    header: str | None, span: tuple[int, int] | None
) -> None:
    assert loopback.wanted(header, 10) == span


def test_the_file_server_gives_ranges_and_nothing_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"0123456789")
    (tmp_path / "secret").write_bytes(b"no")

    with fileserver.serving(tmp_path / "in") as url, httpx.Client(base_url=url) as client:
        part = client.get("/a", headers={"Range": "bytes=2-4"})
        past = client.get("/a", headers={"Range": "bytes=10-"})
        outside = client.get("/%2e%2e/secret")

    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert past.status_code == 416
    assert outside.status_code == 404


def test_memory_is_the_measured_programs_own(tmp_path: Path) -> None:
    small = measure.run([sys.executable, "-c", "print('small')"], cwd=tmp_path)
    large = measure.run([sys.executable, "-c", "b = bytearray(200 * 2**20)"], cwd=tmp_path)

    assert small.stdout.strip() == "small"
    assert large.peak_rss >= 200 * 2**20
    assert large.seconds > 0


def test_a_side_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        measure.run([sys.executable, "-c", "import sys; sys.exit(3)"], cwd=tmp_path)


def test_warming_reads_every_byte_and_no_link_twice(tree: Path) -> None:
    (tree / "link").symlink_to("server")

    assert measure.warm(tree) == sum(map(len, FILES.values()))


@pytest.mark.parametrize(
    ("result", "reached"),
    [
        (Result(row="r", what="w", unit="s", peer=80, ours=10, goal=8), True),
        (Result(row="r", what="w", unit="s", peer=79, ours=10, goal=8), False),
        (Result(row="r", what="w", unit="MB", ours=250, limit=250), True),
        (Result(row="r", what="w", unit="MB", peer=3042, ours=2001, goal=1.5, limit=2000), False),
    ],
)
def test_a_goal_is_met_only_by_ratio_and_limit_together(result: Result, *, reached: bool) -> None:
    assert result.reached is reached


def test_the_table_fits_in_80_columns_and_names_what_was_not_measured() -> None:
    results = [
        Result(row="pack-fast", what="packing, fast", unit="s", peer=414.2, ours=9.87, goal=8),
        Result(
            row="pack-release",
            what="all bytes of a first install",
            unit="MB",
            peer=3042,
            ours=1950,
            goal=1.5,
            limit=2000,
        ),
    ]
    console = Console(width=report.WIDTH, record=True, file=None)
    with console.capture() as captured:
        report.show(console, results, [("install", "no store")])

    printed = captured.get()
    assert max(map(len, printed.splitlines())) <= 80
    assert "41.97x" in printed
    assert "install: not measured, no store" in printed
    rows = json.loads(report.as_json(results, []))["rows"]
    assert [row["reached"] for row in rows] == [True, True]
    assert "| packing, fast | 414 s | 9.9 s | 41.97x | ≥ 8x | yes |" in report.as_markdown(results, [])


def test_a_row_says_what_it_lacks(tmp_path: Path) -> None:
    context = Context(tree=tmp_path, buildinfo=tmp_path, work=tmp_path)

    assert unable(PackFast(), context) is None
    assert "--store" in (unable(Install(), context) or "")
    assert "boto3" in (unable(Upload(), context) or "")
    assert unable(Upload(), replace(context, object_store=True)) is None


def test_temporary_folders_of_a_row_are_gone_also_after_an_error(tmp_path: Path) -> None:
    context = Context(tree=tmp_path, buildinfo=tmp_path, work=tmp_path / "work")

    with pytest.raises(FileNotFoundError), context.folder("x") as folder:
        measure.run([folder / "absent"], cwd=folder)
    assert not (tmp_path / "work" / "x").exists()


def test_bytes_of_a_first_install_count_everything_but_checksums(tmp_path: Path) -> None:
    for name, size in (("a.tar.zst", 10), ("a.index.zst", 5), ("a.tar.zst.sha256", 90), ("r.release.json", 1)):
        (tmp_path / name).write_bytes(b"x" * size)

    assert published_bytes(tmp_path) == 16


def test_a_changed_tree_differs_in_one_module_and_leaves_the_first_alone(tree: Path, tmp_path: Path) -> None:
    entries = tuple(
        OwnedEntry(
            path=name,
            size=len(data),
            sha256=reference_way.sha256(tree / name),
            owner="app" if "/app/" in name else "other",
        )
        for name, data in sorted(FILES.items())
    )
    info = BuildInfo(
        app="lading-server",
        version="0.1.0",
        platform="linux-x86_64",
        variant="cuda",
        entry="server",
        toolkit="cu126",
        modules="loose",
        files=entries,
        distributions={},
        provenance=Provenance(commit="c", epoch=0, python="3", pyinstaller="6", zstd="1", lading="0"),
    )
    (tmp_path / "buildinfo.json").write_bytes(canonical_json(info))

    changed, record = change_app(tree, tmp_path / "buildinfo.json", tmp_path)

    assert content(tree) == FILES
    differing = {name for name, data in content(changed).items() if FILES[name] != data}
    assert differing == {"_internal/app/main.pyc"}
    written = read_record(BuildInfo, record.read_bytes(), origin="record")
    assert [new.path for new, old in zip(written.files, entries, strict=True) if new != old] == [
        "_internal/app/main.pyc"
    ]
    assert next(entry for entry in written.files if entry.owner == "app").sha256 == reference_way.sha256(
        changed / "_internal/app/main.pyc"
    )
