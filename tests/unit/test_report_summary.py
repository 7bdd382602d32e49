from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lading.host import Gpu, GpuFacts, HostFacts
from lading.manifest.base import canonical_json, read_record
from lading.manifest.buildinfo import OwnedEntry
from lading.report.summary import BuildSummary, OwnerSize, Part, Place, Step, SummaryAsset, sizes_by_owner, top
from lading.report.summary_markdown import append_to_job_page, summary_markdown
from lading.report.summary_terminal import print_summary
from lading.report.verification import gpu_line, print_verification, verdict, verification_markdown
from lading.verify import Check, Subject, Verification

HOST = HostFacts(
    platform="linux-x86_64", system="Linux 6.1", glibc="2.36", cpus=2, gpu=GpuFacts(source="none", reason="no_driver")
)


def report(*statuses: str) -> Verification:
    checks = tuple(
        Check.model_validate(
            {
                "name": f"check-{number}",
                "level": "bytes",
                "status": status,
                "reason": "a reason " * 20 if status == "fail" else "found",
                "evidence": {"problems": ["first | problem", "second"], "problem_count": 30}
                if status == "fail"
                else {},
                "seconds": number * 1.5,
            }
        )
        for number, status in enumerate(statuses)
    )
    good = "fail" not in statuses
    subject = Subject(kind="packed", where="out/packed", app="app", version="1.0.0", flavor="cu126")
    return Verification(subject=subject, host=HOST, checks=checks, passed=good, seconds=12.3)


def summary(**changes: object) -> BuildSummary:
    owners = tuple(
        OwnerSize(owner=f"nvidia-owner-{n}-cu12", component="libs", files=n, size=10**9 // (n + 1)) for n in range(20)
    )
    base = BuildSummary(
        app="lading-server",
        version="0.1.0",
        flavor="cu126",
        platform="linux-x86_64",
        commit="0123456789abcdef0123+dirty",
        profile="fast",
        steps=(
            Step(name="environment", seconds=0.2, reused=True, note="the lock has not changed"),
            Step(name="freeze", seconds=141.0, note="6,637 files"),
            Step(name="pack", seconds=38.5),
        ),
        seconds=400,
        tree_files=6637,
        tree_size=5_100_000_000,
        owners=owners,
        parts=(
            Part(name="core", version="0.1.0", files=3000, unpacked=156_000_000, packed=68_000_000, budget=85_000_000),
            Part(
                name="libs", version="cu126-v1", files=3600, unpacked=4_900_000_000, packed=1_874_000_000, reused=True
            ),
        ),
        assets=(SummaryAsset(name="lading-server-libs-cu126-v1-linux-x86_64.tar.zst.001", size=1_874_000_000),),
        facts={"torch": "2.7.1+cu126"},
        verifications={"packed": report("pass", "skipped")},
        places=(Place(what="store", path="out/store"),),
    )
    return base.model_copy(update=changes)


def drawn(draw: object, thing: object, width: int = 80) -> str:
    stream = io.StringIO()
    draw(Console(file=stream, width=width, color_system=None), thing)  # type: ignore[operator]
    return stream.getvalue()


def test_the_summary_fits_into_80_columns_and_says_what_matters() -> None:
    text = drawn(print_summary, summary())
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "lading-server 0.1.0", "cu126", "a first install downloads 1.94 GB", "68.0 MB", "1.87 GB", "budget 85.0 MB",
        "5.10 GB in 6,637 files", "nvidia-owner-0-cu12", "10 others", "reused: the lock has not changed", "2 min 21 s",
        "passed: 1 check, 1 skipped", "- check-1: found", "out/store",
        "✓ built and verified in 6 min 40 s; 1 of 3 steps reused", "2.7.1+cu126",
    ):  # fmt: skip
        assert words in text, words


def test_a_failed_verification_makes_the_summary_not_good() -> None:
    bad = summary(verifications={"installed": report("pass", "fail")})
    assert not bad.good
    text = drawn(print_summary, bad)
    assert "✗ not good after 6 min 40 s: a verification failed" in text
    assert "✗ check-1: a reason" in text


def test_a_build_that_stopped_says_why() -> None:
    text = drawn(
        print_summary, summary(outcome="failed", problem="core packed has 90.0 MB", parts=(), owners=(), assets=())
    )
    assert "core packed has 90.0 MB" in text


def test_names_cannot_smuggle_markup() -> None:
    text = drawn(print_summary, summary(facts={"branch": "[red]x[/red] :smile:"}))
    assert "[red]x[/red] :smile:" in text


def test_the_markdown_has_every_section_and_closed_tables() -> None:
    text = summary_markdown(summary())
    for head in (
        "## lading-server 0.1.0",
        "### Components",
        "### Tree: 5.10 GB",
        "### Assets",
        "### Steps",
        "<details>",
    ):
        assert head in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    assert "✅" in text
    assert "❌" in summary_markdown(summary(outcome="failed", problem="x"))
    assert "<details open>" in summary_markdown(summary(verifications={"packed": report("fail")}))


def test_the_job_page_is_appended_to_only_where_there_is_one(tmp_path: Path) -> None:
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    assert append_to_job_page(summary(), {}) is None
    assert append_to_job_page(summary(), {"GITHUB_STEP_SUMMARY": str(page)}) == page
    assert page.read_text().startswith("before\n## lading-server")


def test_the_record_survives_its_json() -> None:
    record = summary()
    assert read_record(BuildSummary, canonical_json(record), origin="test") == record


def test_a_verification_on_a_terminal_and_as_markdown() -> None:
    bad = report("pass", "fail", "skipped")
    text = drawn(print_verification, bad)
    assert max(map(len, text.splitlines())) <= 80
    assert "FAILED: 1 check of 3" in text
    assert "• first | problem" in text
    assert "… and 28 more" in text
    assert r"first \| problem; second" in verification_markdown(bad)
    assert verdict(report("pass", "pass")) == "passed: 2 checks"


def test_gpus_in_words() -> None:
    assert gpu_line(HOST) == "no NVIDIA GPU (no_driver)"
    gpu = Gpu(index=0, name="NVIDIA H200", uuid="GPU-1", capability="9.0", memory=150_754_820_096)
    host = HOST.model_copy(update={"gpu": GpuFacts(source="nvml", driver="570.86", gpus=(gpu,))})
    assert gpu_line(host) == "NVIDIA H200 (150.75 GB, compute 9.0), driver 570.86"


def test_sizes_by_owner_add_up_to_the_tree() -> None:
    entries = [
        OwnedEntry(path="a", size=5, sha256="0" * 64, owner="torch"),
        OwnedEntry(path="b", size=7, sha256="0" * 64, owner="torch"),
        OwnedEntry(path="c", size=20, sha256="0" * 64, owner="app"),
    ]
    plain = sizes_by_owner(entries)
    assert [(item.owner, item.files, item.size) for item in plain] == [("app", 1, 20), ("torch", 2, 12)]
    split = sizes_by_owner(entries, {"a": "core", "b": "libs", "c": "core"})
    assert [(item.owner, item.component, item.size) for item in split] == [
        ("app", "core", 20), ("torch", "libs", 7), ("torch", "core", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "lines"), [(1, 2), (2, 3), (3, 3), (9, 3)])
def test_the_top_keeps_the_sum(count: int, lines: int) -> None:
    owners = [OwnerSize(owner=f"o{n}", files=1, size=10 * n) for n in range(1, 4)]
    shown = top(owners, count)
    assert sum(item.size for item in shown) == 60
    assert len(shown) == lines
