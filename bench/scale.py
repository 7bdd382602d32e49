"""What updates cost at scale: bytes, requests, peak bandwidth and money a month, by simulation from measured figures.

    python -m bench.scale            prints the tables of docs/explanation/scale.md

Ten thousand machines are followed one by one through a year of weekly releases; each checks once a week at its own
moment, is sometimes switched off for a week, and then skips a release. Ten million machines are a thousand times as
many. The measured figures are read from docs/measurements/updates.json, as the benchmark wrote them; everything else is
a parameter below, and an assumption. The same seed gives the same tables on every machine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

MEASURED = Path(__file__).resolve().parent.parent / "docs" / "measurements" / "updates.json"
Kind = Literal["code", "dependency", "library"]
KINDS: tuple[Kind, ...] = ("code", "dependency", "library")

MACHINES = 10_000  # simulated one by one
WEEKS = 52
HOURS = 7 * 24
SEED = 20_26

# Assumptions about releases and users.
MIX: Mapping[Kind, int] = {"code": 40, "dependency": 10, "library": 2}  # of the year's weekly releases
ONLINE = 0.9  # chance that a machine is switched on in a week
PATCHES = 3  # earlier releases that a release has a patch from (`patches` of app.yaml)

# Assumptions about prices: list prices in dollars without free allowances, looked up in public comparisons of 2024 and
# 2025. Check them before you rely on them.
EGRESS_FREE = {"operations": 0.36}  # object store without egress fees: per million reads
S3_OPERATIONS = 0.40  # object store with egress fees: per million reads
S3_EGRESS = ((10_000, 0.09), (50_000, 0.085), (150_000, 0.07), (float("inf"), 0.05))  # up to so many GB a month: per GB


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one check or update takes: bytes and requests."""

    size: float
    requests: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(size=self.size + other.size, requests=self.requests + other.requests)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The measured figures.

    Attributes:
        check: A check with nothing new.
        patch, whole: An update of each kind by patch, and without one.
        peer: What the reference way downloads again for each kind.
        peer_check: Its check: the file that names the newest version. Not measured, taken as small.
    """

    check: Cost
    patch: Mapping[Kind, Cost]
    whole: Mapping[Kind, Cost]
    peer: Mapping[Kind, Cost]
    peer_check: Cost


def read_figures(path: Path = MEASURED) -> Figures:
    """Read what the benchmark wrote."""
    rows = json.loads(path.read_text("utf-8"))["rows"]
    return Figures(
        check=Cost(size=_ours(rows, "check", "… bytes") * 1e3, requests=_ours(rows, "check", "update check")),
        patch={kind: _cost(rows, kind, f"{_NAMES[kind]} update", "… requests") for kind in KINDS},
        whole={kind: _cost(rows, kind, "… without a patch", "… requests without") for kind in KINDS},
        peer={
            "code": Cost(size=_row(rows, "update-code", "code update")["peer"] * 1e3, requests=2),
            "dependency": Cost(size=_row(rows, "update-code", "code update")["peer"] * 1e3, requests=2),
            "library": Cost(size=_row(rows, "update-library", "… against the archives")["peer"] * 1e3, requests=4),
        },
        peer_check=Cost(size=500, requests=1),
    )


_NAMES = {"code": "code", "dependency": "dependency", "library": "native library"}


def _row(rows: Sequence[Mapping[str, Any]], row: str, what: str) -> Mapping[str, Any]:
    return next(found for found in rows if found["row"] == row and found["what"].startswith(what))


def _ours(rows: Sequence[Mapping[str, Any]], row: str, what: str) -> float:
    return float(_row(rows, row, what)["ours"])


def _cost(rows: Sequence[Mapping[str, Any]], kind: Kind, size: str, requests: str) -> Cost:
    name = f"update-{kind}"
    return Cost(size=_ours(rows, name, size) * 1e3, requests=_ours(rows, name, requests))


def releases(seed: int = SEED) -> tuple[Kind, ...]:
    """The year's releases, one a week, in an order drawn by the seed."""
    kinds = [kind for kind in KINDS for _ in range(MIX[kind])]
    random.Random(seed).shuffle(kinds)
    return tuple(kinds)


def update_cost(figures: Figures, missed: Sequence[Kind]) -> Cost:
    """What an update over some releases takes by Lading's way. Pure.

    A patch leads directly from any of the last few releases: over several it is taken as the sum of theirs, which is
    more than it has. From further back the general path fetches what differs: no more than the sum of the kinds.

    Args:
        figures: The measured figures.
        missed: The kinds of the releases since the installed one, the newest last.
    """
    if not missed:
        return figures.check
    if len(missed) <= PATCHES:
        parts = [figures.patch[kind] for kind in missed]
        return Cost(size=sum(part.size for part in parts), requests=max(part.requests for part in parts))
    parts = [figures.whole[kind] for kind in KINDS if kind in missed for _ in range(missed.count(kind))]
    return Cost(size=sum(part.size for part in parts), requests=max(part.requests for part in parts))


def peer_cost(figures: Figures, missed: Sequence[Kind]) -> Cost:
    """The same by the reference way: the check, and the archives that changed, however many releases were missed."""
    if not missed:
        return figures.peer_check
    largest: Kind = "library" if "library" in missed else "code"
    return figures.peer_check + figures.peer[largest]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a year brought.

    Attributes:
        size, requests: Bytes and requests of the year.
        peak: Bytes of the busiest hour.
        by_patch, general, nothing: How many visits ended in which way.
    """

    size: float
    requests: float
    peak: float
    by_patch: int
    general: int
    nothing: int


def simulate(figures: Figures, *, peer: bool, machines: int = MACHINES, seed: int = SEED) -> Load:
    """Follow machines through a year.

    Args:
        figures: The measured figures.
        peer: By the reference way instead of Lading's.
        machines: How many.
        seed: For the order of the releases and the machines' habits.
    """
    year = releases(seed)
    chance = random.Random(seed + 1)
    hours = [0.0] * (WEEKS * HOURS)
    size = requests = 0.0
    ways = {"patch": 0, "general": 0, "nothing": 0}
    for _ in range(machines):
        moment, installed = chance.randrange(HOURS), 0
        for week in range(WEEKS):
            if chance.random() >= ONLINE:
                continue
            missed = year[installed : week + 1]
            cost = peer_cost(figures, missed) if peer else update_cost(figures, missed)
            ways["nothing" if not missed else "patch" if len(missed) <= PATCHES else "general"] += 1
            hours[week * HOURS + moment] += cost.size
            size, requests, installed = size + cost.size, requests + cost.requests, week + 1
    return Load(
        size=size,
        requests=requests,
        peak=max(hours),
        by_patch=ways["patch"],
        general=ways["general"],
        nothing=ways["nothing"],
    )


def s3_price(gigabytes: float) -> float:
    """Dollars for so much egress in a month, by tiers."""
    total = below = 0.0
    for limit, price in S3_EGRESS:
        part = min(gigabytes, limit) - below
        if part <= 0:
            break
        total, below = total + part * price, limit
    return total


def amount(value: float) -> str:
    """A number of bytes for a person."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.3g} {unit}"
    return f"{value:.0f} B"


def count(value: float) -> str:
    """A number of requests for a person."""
    for unit, size in ((" million", 1e6), (" thousand", 1e3)):
        if value >= size:
            return f"{value / size:,.3g}{unit}"
    return f"{value:.0f}"


def rate(value: float) -> str:
    """Bits a second for a person."""
    for unit, size in (("Tbit/s", 1e12), ("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if value >= size:
            return f"{value / size:,.3g} {unit}"
    return f"{value:.0f} bit/s"


def money(value: float) -> str:
    """Dollars for a person."""
    return f"${value:,.0f}" if value >= 10 else f"${value:,.2f}"  # noqa: PLR2004 (cents matter below)


def column(load: Load, times: float) -> list[str]:
    """One way's values for a number of machines."""
    month = times / 12
    size, requests = load.size * month, load.requests * month
    return [
        amount(size),
        count(requests),
        rate(load.peak * times * 8 / 3600),
        money(requests / 1e6 * EGRESS_FREE["operations"]),
        money(requests / 1e6 * S3_OPERATIONS + s3_price(size / 1e9)),
    ]


LINES = (
    "bytes a month",
    "requests a month",
    "busiest hour of the year",
    "cost a month, no egress fee",
    "cost a month, with egress fee",
)


def tables(figures: Figures) -> str:
    """The tables of the page, as Markdown."""
    peer, ours = simulate(figures, peer=True), simulate(figures, peer=False)
    text = ["| one visit | reference way | Lading by patch | Lading without a patch |", "|---|--:|--:|--:|"]
    text.append(f"| nothing new | {amount(figures.peer_check.size)} | {amount(figures.check.size)} | |")
    for kind in KINDS:
        sizes = (figures.peer[kind].size, figures.patch[kind].size, figures.whole[kind].size)
        text.append(f"| {_NAMES[kind]} changed | " + " | ".join(map(amount, sizes)) + " |")
    for machines, name in ((10_000, "10,000 machines"), (10_000_000, "10 million machines")):
        columns = column(peer, machines / MACHINES), column(ours, machines / MACHINES)
        text += ["", f"| {name} | reference way | Lading |", "|---|--:|--:|"]
        text += [f"| {line} | {one} | {other} |" for line, one, other in zip(LINES, *columns, strict=True)]
    visits = ours.by_patch + ours.general + ours.nothing
    text += [
        "",
        f"Of {visits:,} visits {ours.by_patch / visits:.1%} updated by patch, {ours.general / visits:.2%} without",
    ]
    text[-1] += f"; the bytes differ by a factor of {peer.size / ours.size:,.0f}."
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    print(tables(read_figures()), end="")
