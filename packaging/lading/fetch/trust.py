"""The one way to a release that may be installed: TUF's client workflow from an embedded root.

python-tuf does the verification; this module brings it our sources, our errors and our folder. Nothing here ever falls
back to unverified bytes. A folder keeps the newest metadata seen, by which a repository that goes backwards is noticed.

Invariants:
    * The root that the caller gives is the anchor, always; what the folder holds is believed as far as it follows from
      that root by signatures.
    * A file of the folder that is damaged is as one that is not there: it costs the protection that this one file gave,
      and nothing else.
    * With several mirrors, one of them must give a sound state by itself; a file whose digest is known may come from
      any.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import IO, NoReturn, Protocol, TypeVar, runtime_checkable

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig
from typing_extensions import override

from lading.atomic import as_host_error, write_atomic
from lading.cancel import sleeping_until
from lading.errors import (
    DigestMismatch,
    FormatInvalid,
    Interrupted,
    LadingError,
    SourceUnreachable,
    Unavailable,
    Untrusted,
    listed,
)
from lading.fetch.refusal import Evidence, check_root, explain
from lading.fetch.source import NotNow, Source, Temporary, fetch_small, retrying, soonest
from lading.manifest.base import Record, read_record
from lading.manifest.channel import Channel, ChannelEntry
from lading.manifest.layout import CHANNELS, METADATA, TARGETS, channel_target
from lading.manifest.release import Release

NOT_FOUND = 404
CONFIG = UpdaterConfig()
_HISTORY, _TARGETS = "root_history", "targets"  # python-tuf's folders inside the trust folder
_KEPT = ("root.json", "timestamp.json", "snapshot.json", "targets.json")
R = TypeVar("R", bound=Record)
T = TypeVar("T")


def _now() -> datetime:
    return datetime.now(UTC)


@runtime_checkable
class Mirrored(Protocol):
    """A source that knows several places.

    ``mirrors`` gives them in the order in which they should be asked now; each is a source of its own, and hears by
    its ``distrust`` that what it gave was wrong.
    """

    @property
    def mirrors(self) -> Sequence[Source]:
        """The places."""


def places_of(source: Source) -> tuple[Source, ...]:
    """The places that a source knows; a simple one is its own only place."""
    return tuple(source.mirrors) if isinstance(source, Mirrored) else (source,)


class _Fetcher(FetcherInterface):
    """Gives python-tuf our sources; every failure is translated here, because it lets others through as they are.

    What decides about the state of the repository, the next root and the timestamp, comes from one place. All other
    files are named by their digest, so that any place may give them.
    """

    def __init__(self, place: Source, others: Sequence[Source] = (), *, stop: Event | None = None) -> None:
        self.place = place
        self.others = others
        self.stop = stop
        self.name = ""
        self.fetched: dict[str, bytes] = {}

    @override
    def _fetch(self, url: str) -> Iterator[bytes]:
        with self.download_file(url, CONFIG.targets_max_length) as stream:
            yield stream.read()

    @override
    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Fetch a file of at most ``max_length`` bytes, with our retries."""
        metadata = url.startswith(f"{METADATA}/")
        name = url.rpartition("/")[2]
        decides = metadata and name.endswith(("root.json", "timestamp.json"))
        data = self._first(url, max_length, (self.place,) if decides else (self.place, *self.others))
        if data is None:
            raise DownloadHTTPError(f"{self.place.describe(url)} is not there", NOT_FOUND)
        if metadata:
            self.name = name
            self.fetched[name.removesuffix(".json").rpartition(".")[2]] = data
        yield io.BytesIO(data)

    def _first(self, url: str, limit: int, places: Sequence[Source]) -> bytes | None:
        failed: DownloadError | None = None
        for place in places:
            try:
                data = fetch_small(place, url, limit, stop=self.stop)
            except Interrupted:
                raise
            except LadingError as error:
                failed = failed or DownloadError(str(error))
                failed.__cause__ = failed.__cause__ or error
                continue
            if data is not None:
                return data
        if failed is not None:
            raise failed
        return None


class _Updater(Updater):
    """python-tuf's client on every file system, and durable.

    It would link ``root.json`` to the newest root, which not every file system can, and which nothing needs while the
    root is given; and it would leave it to luck whether what was seen survives a power cut.
    """

    @override
    def _update_root_symlink(self) -> None:
        newest = Path(self._dir, _HISTORY, f"{self._trusted_set.root.version}.root.json").read_bytes()
        shown = Path(self._dir, "root.json")
        if shown.is_symlink() or not shown.is_file() or shown.read_bytes() != newest:
            write_atomic(shown, newest)

    @override
    def _persist_file(self, filename: str, data: bytes) -> None:
        path = Path(filename)
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data)


class Trust:
    """A repository whose metadata has been verified, now.

    Args:
        source: The repository; with several mirrors, the first that gives a sound state.
        root: The bytes of a root metadata that the caller trusts, such as the one embedded in a client.
        folder: Keeps the newest metadata; for this process alone (hold a lock).
        clock: What time it is, for messages; the verification takes the system's time.
        stop: Ends the waits between attempts.

    Raises:
        Interrupted: ``stop`` was set.
        RootInvalid: The given root is none, or the repository offers one that cannot follow it.
        SignatureInvalid: The metadata is not signed by enough trusted keys.
        RollbackDetected: It is older than what was seen before.
        MetadataMixed: Its files do not belong to one state.
        MetadataExpired: It is past its expiry.
        DigestMismatch, FormatInvalid, FormatTooNew, LengthExceeded: A file is not what it should be.
        SourceUnreachable: The repository cannot be reached.
        AccessDenied, DiskFull: The folder cannot be written.
    """

    def __init__(
        self,
        source: Source,
        root: bytes,
        folder: Path,
        *,
        clock: Callable[[], datetime] = _now,
        stop: Event | None = None,
    ) -> None:
        check_root(root)
        self._stop = stop
        self._folder = folder
        self._clock = clock
        self._places = places_of(source)
        with _host_errors():
            _tidy(folder)
        self._updater, self._fetcher = _first_sound(
            self._places, f"{METADATA}/timestamp.json", lambda place: self._refreshed(place, root), stop
        )

    @property
    def place(self) -> Source:
        """The mirror whose state is the verified one."""
        return self._fetcher.place

    def channels(self, app: str) -> tuple[str, ...]:
        """The names of an app's channels."""
        targets = Metadata[Targets].from_bytes((self._folder / "targets.json").read_bytes()).signed.targets
        folder = f"{CHANNELS}/{app}/"
        return tuple(
            sorted(path.removeprefix(folder).removesuffix(".json") for path in targets if path.startswith(folder))
        )

    def channel(self, app: str, name: str) -> Channel:
        """The releases of a channel, newest first.

        Raises:
            SourceUnreachable: The repository has no such channel for this app, or cannot be reached.
            DigestMismatch, FormatInvalid, FormatTooNew: The published index is not the signed one, or not one that we
                can read.
        """
        channel = self._target(Channel, channel_target(app, name))
        if (channel.app, channel.channel) != (app, name):
            raise _mixed_up(f"the index of {app}'s channel {name} is that of {channel.app}'s {channel.channel}")
        return channel

    def release(self, entry: ChannelEntry, app: str) -> Release:
        """A release that a channel lists.

        Raises:
            SourceUnreachable: It is not there, or cannot be reached.
            DigestMismatch, FormatInvalid, FormatTooNew: It is not the signed one, or not one that we can read.
        """
        if entry.target is None:
            raise _mixed_up(f"{entry.version} is to be had, and its files were deleted")
        release = self._target(Release, entry.target)
        found = (release.app, release.version, release.platform, release.flavor)
        if found != (app, entry.version, entry.platform, entry.flavor):
            raise _mixed_up(f"{entry.target} describes {' '.join(found)}")
        return release

    def target(self, path: str) -> bytes:
        """The bytes of any target.

        Raises:
            SourceUnreachable: There is no such target, or it cannot be reached.
            DigestMismatch: No mirror has the signed bytes.
        """
        with self._translated(self._fetcher):
            info = self._updater.get_targetinfo(path)
            if info is None:
                raise SourceUnreachable(
                    f"The repository {self.place.describe('')} has no {path}.",
                    usually="The app or channel is misspelt, or nothing was published there yet.",
                    todo="Check the names; `--app` and `--channel` choose others.",
                )
            if (cached := self._updater.find_cached_target(info)) is not None:
                return Path(cached).read_bytes()

        def download(place: Source) -> bytes:
            self._fetcher.place, self._fetcher.others = place, ()
            with self._translated(self._fetcher):
                return Path(self._updater.download_target(info)).read_bytes()

        chosen = self.place
        try:
            others = (place for place in self._places if place is not chosen)
            return _first_sound((chosen, *others), f"{TARGETS}/{path}", download, self._stop)
        finally:
            self._fetcher.place = chosen

    def _target(self, kind: type[R], path: str) -> R:
        return read_record(kind, self.target(path), origin=self.place.describe(f"{TARGETS}/{path}"))

    def _refreshed(self, place: Source, root: bytes) -> tuple[_Updater, _Fetcher]:
        fetcher = _Fetcher(place, [other for other in self._places if other is not place], stop=self._stop)
        with self._translated(fetcher):
            updater = _Updater(
                metadata_dir=str(self._folder),
                metadata_base_url=f"{METADATA}/",
                target_dir=str(self._folder / _TARGETS),
                target_base_url=f"{TARGETS}/",
                fetcher=fetcher,
                config=CONFIG,
                bootstrap=root,
            )
            updater.refresh()
        return updater, fetcher

    @contextmanager
    def _translated(self, fetcher: _Fetcher) -> Iterator[None]:
        """Turn python-tuf's errors into ours."""
        try:
            with _host_errors():
                yield
        except LengthOrHashMismatchError as error:
            if fetcher.name:
                raise explain(error, self._evidence(fetcher, error)) from error
            raise _altered_target(error, fetcher.place) from error
        except RepositoryError as error:
            raise explain(error, self._evidence(fetcher, error)) from error
        except DownloadError as error:
            _raise_download(error, fetcher)
        fetcher.name = ""

    def _evidence(self, fetcher: _Fetcher, error: RepositoryError) -> Evidence:
        root = (self._folder / "root.json").read_bytes()
        seen = {name.removesuffix(".json"): data for name in _KEPT if (data := _bytes(self._folder / name))}
        offered = None
        if fetcher.name == "timestamp.json" and isinstance(error, UnsignedMetadataError):
            offered = _root_like(fetcher.place, root)
        return Evidence(
            base=fetcher.place.describe(""),
            name=fetcher.name,
            root=root,
            seen=seen,
            fetched=fetcher.fetched,
            offered=offered,
            now=self._clock(),
        )


def _first_sound(places: Sequence[Source], path: str, attempt: Callable[[Source], T], stop: Event | None) -> T:
    """Ask one place after another until one gives what can be trusted; wait only when all of them have failed."""
    refused: list[LadingError] = []

    def once() -> list[T]:
        refused.clear()
        for place in places:
            try:
                return [attempt(place)]
            except (Untrusted, Unavailable) as error:
                if isinstance(error, Untrusted):
                    place.distrust(path, error.what)
                refused.append(error)
        if busy := [error for error in refused if isinstance(error, NotNow)]:
            raise Temporary(busy[0].what, retry_after=soonest(busy))
        return []

    with suppress(Temporary):  # it was tried often enough: what all of them said is told below
        if found := retrying(sleeping_until(stop))(once):
            return found[0]
    raise _told(refused)


def _told(errors: Sequence[LadingError]) -> LadingError:
    """One error for all places: what is wrong with the first that answered, and with the others."""
    chosen = next((error for error in errors if isinstance(error, Untrusted)), errors[0])
    others = [error.what for error in errors if error is not chosen]
    if others:
        chosen.what += f" The other mirrors are of no help:{listed(others)}"
    return chosen


def _tidy(folder: Path) -> None:
    """Make the folder fit for use: what has a file's name is a file, and nothing of a killed run is left."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*folder.iterdir(), *folder.glob(f"{_HISTORY}/*.root.json"), *folder.glob(f"{_TARGETS}/*")]:
        folder_expected = path.name in {_HISTORY, _TARGETS}
        if path.is_file() and (path.name.endswith(".tmp") or folder_expected):
            path.unlink()
        elif path.name.endswith(".json") and path.is_dir():
            shutil.rmtree(path)  # the folder is ours, and no metadata is a folder
    (folder / _TARGETS).mkdir(exist_ok=True)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _root_like(place: Source, root: bytes) -> bytes | None:
    """The place's own root of the version that is trusted here; only to explain a refusal."""
    version = Metadata[Root].from_bytes(root).signed.version
    try:
        return fetch_small(place, f"{METADATA}/{version}.root.json", CONFIG.root_max_length)
    except (Untrusted, Unavailable):
        return None


@contextmanager
def _host_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise as_host_error(error, "keeping the repository's metadata") from error


def _altered_target(error: LengthOrHashMismatchError, place: Source) -> DigestMismatch:
    return DigestMismatch(
        f"A file of {place.describe('')} is not the one that was signed: {error}.",
        usually="It was damaged or altered on the way.",
        todo="Run the same command again; if it stays, use another source. Nothing was changed here.",
    )


def _raise_download(error: DownloadError, fetcher: _Fetcher) -> NoReturn:
    if isinstance(error.__cause__, LadingError):
        raise error.__cause__ from error
    if fetcher.name in {"", "timestamp.json"} and "timestamp" not in fetcher.fetched:
        raise SourceUnreachable(
            f"{fetcher.place.describe('')} does not look like a repository: {error}.",
            usually="The address or folder is wrong, or nothing was published there yet.",
            todo="Give the base under which metadata, targets and assets lie.",
        ) from error
    raise SourceUnreachable(
        f"The repository is incomplete: {error}.",
        usually="It was copied while it changed, or a copy of it was interrupted.",
        todo="Run the same command again in a while, or use another source.",
    ) from error


def _mixed_up(what: str) -> FormatInvalid:
    return FormatInvalid(
        f"The repository contradicts itself: {what}.",
        usually="The publisher signed a mistake.",
        todo="Tell the publisher; nothing was changed here.",
    )
