"""Verify what was published, as a stranger sees it: through the public address of every destination.

For each destination: the signatures are followed from a root that the caller trusts; the metadata is compared with that
of the other destinations; every object of one version is fetched and digested; the server is asked for what clients
need; and a real client installs from there, into a folder that is deleted again. A destination with no failed check is
sound.

Which version: the one that the newest metadata among the destinations names as the channel's newest, unless one is
given. So a mirror that was left behind fails, and its objects are looked at all the same.

Does not: use credentials, change a destination, or say that a release runs (``lading verify`` of what is installed).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lading.errors import DiskFull, LadingError
from lading.fetch.address import open_place
from lading.fetch.refusal import check_root
from lading.fetch.source import Source
from lading.host.facts import host_facts
from lading.host.record import HostFacts
from lading.manifest.release import Release
from lading.progress import Progress, Silent
from lading.store.present import free_room
from lading.verify.engine import conclude, put
from lading.verify.published_checks import RULES, Mirror, PublishedContext, PublishedWish, installed_releases
from lading.verify.published_state import Expected, State, behind, expected_of, newest, read_state
from lading.verify.record import Check, Subject, Verification

PAUSE = 15.0  # seconds between two looks at destinations that do not agree yet


def room_needed(releases: Sequence[Release]) -> int:
    """Bytes that the largest of the installs needs; each is deleted before the next begins."""
    sizes = [max(release.requirements.disk, sum(part.unpacked for part in release.components)) for release in releases]
    return max(sizes, default=0)


def _check_room(releases: Sequence[Release]) -> None:
    folder = Path(tempfile.gettempdir())
    needed, free = room_needed(installed_releases(releases)), free_room(folder)
    if free < needed:
        raise DiskFull(
            f"An install needs {needed / 1e6:,.0f} MB in {folder}; {free / 1e6:,.0f} MB are free.",
            usually="The disk with the temporary folder is small.",
            todo="Make room, have another folder in TMPDIR (TEMP on Windows), or give --no-install.",
        )


@dataclass(kw_only=True)
class _Look:
    """What all destinations say at one moment.

    Attributes:
        states: Of those that could be read, by name.
        refused: Why the others could not be.
    """

    states: dict[str, State] = field(default_factory=dict)
    refused: dict[str, LadingError] = field(default_factory=dict)

    def settled(self, wish: PublishedWish) -> bool:
        """Whether waiting longer would change nothing: all agree, and have the version that is asked for."""
        if self.refused or any(behind(name, self.states) for name in self.states):
            return False
        channels = [state.channel.releases for state in self.states.values()]
        return wish.version is None or all(
            any(entry.version == wish.version for entry in entries) for entries in channels
        )


def _look(sources: dict[str, Source], wish: PublishedWish, folder: Path) -> _Look:
    look = _Look()
    for number, (name, source) in enumerate(sources.items()):
        try:
            look.states[name] = read_state(source, wish.root, folder / str(number), app=wish.app, channel=wish.channel)
        except LadingError as error:
            look.refused[name] = error
    return look


def _settled(
    sources: dict[str, Source], wish: PublishedWish, scratch: Path, sleep: Callable[[float], None], progress: Progress
) -> _Look:
    """Look until all destinations agree, or for as long as somebody wants to wait."""
    waited, number = 0.0, 0
    while True:
        # A folder of its own for every look and destination: what one says must not be held against another here.
        look = _look(sources, wish, scratch / str(number))
        if look.settled(wish) or waited >= wish.wait:
            return look
        pause = min(PAUSE, wish.wait - waited)
        progress.note(f"The destinations do not agree yet; looking again in {pause:.0f} s.")
        sleep(pause)
        waited, number = waited + pause, number + 1


def _expected(look: _Look, wish: PublishedWish) -> tuple[str | None, Expected | None, str]:
    best = newest(look.states)
    if best is None:
        return None, None, "no destination says what was published"
    try:
        return best, expected_of(look.states[best], wish.version), ""
    except LadingError as error:
        return best, None, error.what


@contextmanager
def _opened(mirrors: Sequence[Mirror]) -> Iterator[dict[str, Source]]:
    with ExitStack() as stack:
        yield {mirror.name: stack.enter_context(closing(open_place(mirror.address))) for mirror in mirrors}


def verify_published(
    mirrors: Sequence[Mirror],
    wish: PublishedWish,
    *,
    host: HostFacts | None = None,
    progress: Progress | None = None,
    watch: Callable[[Check], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Verification, ...]:
    """Verify what was published to some destinations.

    Args:
        mirrors: The destinations, each with another name.
        wish: What is to be verified.
        host: This machine; looked at when none.
        progress: Where to report.
        watch: Told every answer at once.
        sleep: Waits for a number of seconds.

    Returns:
        One report each, in their order; a destination that is broken is a failed check, not an exception.

    Raises:
        RootInvalid: The given root is none.
        DiskFull: There is no room for the installs; nothing but metadata was fetched.
        SourceUnreachable: An address is of an unknown kind.
    """
    if len({mirror.name for mirror in mirrors}) != len(mirrors):
        message = "two destinations have one name"
        raise TypeError(message)
    check_root(wish.root)
    facts, reports = host or host_facts(), []
    with tempfile.TemporaryDirectory(prefix="lading-verify-") as scratch, _opened(mirrors) as sources:
        look = _settled(sources, wish, Path(scratch), sleep, progress or Silent())
        best, expected, unknown = _expected(look, wish)
        if expected is not None and wish.installs:
            _check_room(tuple(expected.releases.values()))
        for mirror in mirrors:
            began = time.monotonic()
            context = PublishedContext(
                mirror=mirror, source=sources[mirror.name], wish=wish, states=look.states,
                refused=look.refused.get(mirror.name), newest=best, expected=expected, unknown=unknown,
                progress=progress or Silent(),
            )  # fmt: skip
            checks = put(RULES, context, watch)
            reports.append(conclude(_subject(mirror, wish, expected), facts, checks, began=began))
    return tuple(reports)


def _subject(mirror: Mirror, wish: PublishedWish, expected: Expected | None) -> Subject:
    version = expected.version if expected is not None else wish.version
    return Subject(kind="published", where=mirror.shown, app=wish.app, version=version)
