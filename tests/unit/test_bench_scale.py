"""The simulation behind the page on scale: its rules, and that the page shows its result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bench import scale
from bench.scale import Cost, Figures, Kind, peer_cost, read_figures, releases, simulate, update_cost

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "scale.md"


def costs(code: float, dependency: float, library: float) -> dict[Kind, Cost]:
    sizes: dict[Kind, float] = {"code": code, "dependency": dependency, "library": library}
    return {kind: Cost(size=size, requests=3) for kind, size in sizes.items()}


FIGURES = Figures(
    check=Cost(size=1, requests=2),
    patch=costs(10, 100, 1_000),
    whole=costs(20, 200, 2_000),
    peer=costs(1e6, 1e6, 3e6),
    peer_check=Cost(size=5, requests=1),
)


@pytest.mark.parametrize(
    ("missed", "size"),
    [
        ((), 1),
        (("code",), 10),
        (("code", "code", "dependency"), 120),
        (("code", "code", "code", "code"), 80),
        (("code", "library", "dependency", "code"), 2_240),
    ],
    ids=["nothing", "one", "as far as patches reach", "further back", "further back and everything"],
)
def test_what_a_visit_takes_depends_on_what_was_missed(missed: tuple[Kind, ...], size: float) -> None:
    assert update_cost(FIGURES, missed).size == size


@pytest.mark.parametrize(
    ("missed", "size"), [((), 5), (("code",), 1_000_005), (("code",) * 9, 1_000_005), (("library", "code"), 3_000_005)]
)
def test_the_reference_way_downloads_the_newest_archive_once_however_many_were_missed(
    missed: tuple[Kind, ...], size: float
) -> None:
    assert peer_cost(FIGURES, missed).size == size


def test_a_year_has_a_release_a_week_of_the_stated_mix_and_the_seed_decides_their_order() -> None:
    year = releases(1)

    assert {kind: year.count(kind) for kind in scale.KINDS} == dict(scale.MIX)
    assert len(year) == scale.WEEKS
    assert year == releases(1) != releases(2)


def test_every_visit_is_counted_and_the_same_seed_gives_the_same_year() -> None:
    ours = simulate(FIGURES, peer=False, machines=50)

    assert ours == simulate(FIGURES, peer=False, machines=50)
    assert ours != simulate(FIGURES, peer=False, machines=50, seed=3)
    visits = ours.by_patch + ours.general + ours.nothing
    assert 0.85 < visits / (50 * scale.WEEKS) < 0.95
    assert ours.nothing == 0, "there is a release every week"
    assert ours.requests == 3 * visits
    assert ours.peak * scale.WEEKS * scale.HOURS >= ours.size


def test_both_ways_meet_the_same_machines() -> None:
    ours, peer = simulate(FIGURES, peer=False, machines=50), simulate(FIGURES, peer=True, machines=50)

    assert (ours.by_patch, ours.general) == (peer.by_patch, peer.general)
    same = replace(FIGURES, patch=FIGURES.peer, whole=FIGURES.peer)
    assert simulate(same, peer=False, machines=50).size > peer.size, "several missed releases count each"


def test_machines_that_are_always_on_always_find_a_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "ONLINE", 1.1)

    ours = simulate(FIGURES, peer=False, machines=5)

    assert (ours.general, ours.by_patch) == (0, 5 * scale.WEEKS)
    per_machine = sum(FIGURES.patch[kind].size * scale.MIX[kind] for kind in scale.KINDS)
    assert ours.size == pytest.approx(5 * per_machine)


@pytest.mark.parametrize(
    ("gigabytes", "dollars"), [(0, 0), (100, 9), (10_000, 900), (20_000, 1_750), (1_000_000, 11_300 + 42_500)]
)
def test_egress_is_priced_by_tiers(gigabytes: float, dollars: float) -> None:
    assert scale.s3_price(gigabytes) == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (scale.amount(999), "999 B"),
        (scale.amount(1_139_000_000), "1.14 GB"),
        (scale.count(1_250_000), "1.25 million"),
        (scale.rate(2.5e9), "2.5 Gbit/s"),
        (scale.money(0.5), "$0.50"),
        (scale.money(123_456), "$123,456"),
    ],
)
def test_numbers_are_written_for_people(text: str, expected: str) -> None:
    assert text == expected


def test_the_figures_are_those_that_the_benchmark_wrote() -> None:
    body = json.loads(scale.MEASURED.read_text("utf-8"))
    rows = {(row["row"], row["what"]): row for row in body["rows"]}
    figures = read_figures()

    assert body["schema"] == "lading/bench/1"
    assert figures.patch["code"].size == rows["update-code", "code update"]["ours"] * 1e3
    assert figures.whole["dependency"].size == rows["update-dependency", "… without a patch"]["ours"] * 1e3
    assert figures.peer["library"].size > figures.peer["code"].size > 1e9
    assert figures.check.requests == 2


def test_the_page_shows_what_the_program_prints() -> None:
    text = PAGE.read_text("utf-8")
    shown = text[text.index("<!-- bench.scale -->\n") + len("<!-- bench.scale -->\n") : text.index("<!-- end -->")]

    assert shown == scale.tables(read_figures())


def test_the_page_states_every_assumption_with_its_value() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())

    assert f"{scale.MIX['code']} of 52 releases change code" in text
    assert f"{scale.ONLINE:.0%}" in text
    assert f"the last {scale.PATCHES} releases" in text
    assert f"${scale.EGRESS_FREE['operations']:.2f} per million reads" in text
    assert f"${scale.S3_OPERATIONS:.2f} per million reads" in text
    assert all(f"${price:g}" in text for _, price in scale.S3_EGRESS)
