"""The checks of one destination: what each looks at, and in which order they are put.

Does not: decide what should be there (:mod:`lading.verify.published`), or how the pieces are fetched and judged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lading.errors import LadingError, Unavailable
from lading.fetch.source import Source, fetch_small
from lading.fetch.trust import CONFIG
from lading.host.platform import this_platform
from lading.manifest.github_layout import parse_address
from lading.manifest.layout import METADATA
from lading.manifest.release import Release
from lading.progress import Progress
from lading.store.install import install
from lading.verify.engine import Outcome, Rule, failed, from_problems, passed, skipped
from lading.verify.published_objects import Findings, extra_files, fetch_all, objects_of
from lading.verify.published_serving import Server, Serving
from lading.verify.published_state import Expected, State, behind, not_listed, other_releases

TIMESTAMP = f"{METADATA}/timestamp.json"


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """One destination as clients read it.

    Attributes:
        name: What it is called.
        address: A folder's path, ``github:owner/name``, or an address.
    """

    name: str
    address: str

    @property
    def shown(self) -> str:
        """For messages."""
        return self.address if self.name == self.address else f"{self.name} ({self.address})"

    @property
    def served(self) -> bool:
        """Whether a server answers, and not a file system."""
        return parse_address(self.address) is not None or self.address.lower().startswith(("http://", "https://"))


@dataclass(frozen=True, kw_only=True)
class PublishedWish:
    """What is to be verified.

    Attributes:
        root: The trusted root metadata.
        app, channel: Which channel.
        version: Which version; the channel's newest when none.
        installs: Install from every destination.
        wait: Seconds for which destinations may still disagree, because caches are in between.
    """

    root: bytes
    app: str
    channel: str = "stable"
    version: str | None = None
    installs: bool = True
    wait: float = 0.0


@dataclass(kw_only=True)
class PublishedContext:
    """What the checks of one destination look at.

    Attributes:
        mirror: Which.
        source: Reads it.
        wish: What is to be verified.
        states: What every destination says, this one included, as far as it could be read.
        refused: Why this one could not be read.
        newest: The destination whose metadata is the newest.
        expected: What every destination should have; none when nobody says it.
        unknown: Why not.
        progress: Where to report.
        findings: What fetching showed.
    """

    mirror: Mirror
    source: Source
    wish: PublishedWish
    states: dict[str, State]
    refused: LadingError | None
    newest: str | None
    expected: Expected | None
    unknown: str
    progress: Progress
    findings: Findings | None = None

    @property
    def releases(self) -> tuple[Release, ...]:
        """The expected releases; the check before has made sure that they are known."""
        assert self.expected is not None
        return tuple(self.expected.releases.values())


def _reachable(context: PublishedContext) -> Outcome:
    """One request tells whether the others are worth sending: each would be tried again and again."""
    if isinstance(context.refused, Unavailable):
        fetch_small(context.source, TIMESTAMP, CONFIG.timestamp_max_length)
    return passed("it answers")


def _signatures(context: PublishedContext) -> Outcome:
    if context.refused is not None:
        raise context.refused
    versions = context.states[context.mirror.name].versions
    told = ", ".join(f"{role} {number}" for role, number in versions.items())
    return passed(f"followed from the trusted root: {told}", versions=dict(versions))


def _agreement(context: PublishedContext) -> Outcome:
    if len(context.states) == 1:
        return skipped("there is no other destination to compare with")
    problems = behind(context.mirror.name, context.states)
    return from_problems(problems, f"as new as the other {len(context.states) - 1}")


def _known(context: PublishedContext) -> Outcome:
    if context.expected is None:
        return failed(context.unknown)
    named = ", ".join(f"{release.flavor} {release.platform}" for release in context.releases)
    return passed(f"{context.wish.app} {context.expected.version}: {named}", version=context.expected.version)


def _listed(context: PublishedContext) -> Outcome:
    assert context.expected is not None  # release-known has passed
    problems = not_listed(context.states[context.mirror.name], context.expected)
    count = len(context.expected.releases)
    return from_problems(problems, f"{count} release manifest{'s' if count > 1 else ''}, listed in the channel")


def _objects(context: PublishedContext) -> Outcome:
    objects = objects_of(context.releases)
    with context.progress.task(f"checking {context.mirror.name}", sum(item.size for item in objects)) as task:
        context.findings = fetch_all(context.source, objects, task)
    found = context.findings
    bare = {path: how for path, how in found.altered.items() if not path.endswith(".sha256")}
    problems = [f"{path} is missing" for path in found.missing] + [f"{path} {how}" for path, how in bare.items()]
    return from_problems(
        problems, f"{found.count} objects have the right bytes", objects=found.count, bytes=found.bytes
    )


def _checksums(context: PublishedContext) -> Outcome:
    if context.findings is None:
        return skipped("because objects could not be fetched")
    names = [item.path for item in objects_of(context.releases) if item.kind == "checksum"]
    altered = [path for path in names if path in context.findings.altered]
    problems = [f"{path} does not say what the release says" for path in altered]
    missing = sum(path in names for path in context.findings.missing)
    there = f", {missing} missing (see objects)" if missing else ""
    return from_problems(problems, f"{len(names) - missing} checksum files agree{there}")


def _extra(context: PublishedContext) -> Outcome:
    def others() -> Sequence[Release]:
        assert context.newest is not None  # somebody has said which releases are expected
        assert context.expected is not None
        return other_releases(context.states[context.newest], context.expected)

    try:
        found = extra_files(context.mirror.address, context.releases, others)
    except Unavailable as error:
        return skipped(f"they cannot be listed now: {error.what}")
    if found is None:
        return skipped("a web server lists nothing to strangers")
    if not found:
        return passed("no other files beside them")
    return passed(f"{len(found)} that no release of this channel names: {', '.join(found[:5])}", extra=list(found))


def _largest(context: PublishedContext) -> tuple[str, int] | None:
    """The largest asset that is there with the right bytes: what is wrong with the others is told already."""
    wrong = {*context.findings.missing, *context.findings.altered} if context.findings else set()
    sound = [item for item in objects_of(context.releases) if item.kind == "asset" and item.path not in wrong]
    found = max(sound, key=lambda item: item.size, default=None)
    return (found.path, found.size) if found else None


def _asked(context: PublishedContext, ask: Callable[[Server], Serving], found: str) -> Outcome:
    if not context.mirror.served:
        return skipped("a folder is read, and not served")
    with closing(Server()) as server:
        serving = ask(server)
    told = "; ".join([found, *serving.remarks])
    return from_problems(serving.problems, told)


def _ranges(context: PublishedContext) -> Outcome:
    largest = _largest(context)
    if largest is None:
        return skipped("because no asset is there with the right bytes")
    path, size = largest
    url = context.source.describe(path)
    return _asked(context, lambda server: server.ranges(url, size), "single ranges of archives")


def _caching(context: PublishedContext) -> Outcome:
    url = context.source.describe(TIMESTAMP)
    return _asked(context, lambda server: server.timestamp(url), "a new timestamp is seen soon")


def _install(context: PublishedContext) -> Outcome:
    if not context.wish.installs:
        return skipped("it was not asked for")
    told = []
    for release in installed_releases(context.releases):
        with tempfile.TemporaryDirectory(prefix="lading-verify-") as scratch:
            result = install(
                context.mirror.address,
                context.wish.root,
                Path(scratch),
                app=context.wish.app,
                channel=context.wish.channel,
                version=release.version,
                flavor=release.flavor,
                platform=release.platform,
                progress=context.progress,
            )
        told.append(f"{release.flavor} {release.platform} in {result.seconds:.1f} s, {result.requests} requests")
    return passed(", ".join(told), installs=len(told))


RULES: tuple[Rule[PublishedContext], ...] = (
    Rule(name="reachable", level="serving", run=_reachable),
    Rule(name="signatures", level="bytes", run=_signatures, needs=("reachable",)),
    Rule(name="agreement", level="bytes", run=_agreement, needs=("signatures",)),
    Rule(name="release-known", level="bytes", run=_known),
    Rule(name="release-listed", level="bytes", run=_listed, needs=("signatures", "release-known")),
    Rule(name="objects", level="bytes", run=_objects, needs=("reachable", "release-known")),
    Rule(name="checksum-files", level="bytes", run=_checksums, needs=("reachable", "release-known")),
    Rule(name="extra-files", level="bytes", run=_extra, needs=("reachable", "release-known")),
    Rule(name="ranges", level="serving", run=_ranges, needs=("reachable", "release-known")),
    Rule(name="caching", level="serving", run=_caching, needs=("signatures",)),
    Rule(name="install", level="layout", run=_install, needs=("signatures", "release-listed")),
)


def installed_releases(releases: Sequence[Release]) -> tuple[Release, ...]:
    """Which of a version's releases are installed: those for this platform, else the first."""
    here = [release for release in releases if release.platform == this_platform()]
    return tuple(here or releases[:1])
