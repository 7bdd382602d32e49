"""The one way to a release that may be installed: TUF's client workflow from an embedded root.

python-tuf does the verification; this module brings it our sources, our errors and our folder. Nothing here ever falls
back to unverified bytes. A folder keeps the newest metadata seen, by which a repository that goes backwards is noticed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn, TypeVar

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig
from typing_extensions import override

from lading.atomic import as_host_error
from lading.errors import (
    DigestMismatch,
    FormatInvalid,
    LadingError,
    MetadataExpired,
    SignatureInvalid,
    SourceUnreachable,
)
from lading.fetch.source import Source, fetch_small
from lading.manifest.base import Record, read_record
from lading.manifest.layout import METADATA, TARGETS, channel_target
from lading.manifest.release import Channel, ChannelEntry, Release

NOT_FOUND = 404
R = TypeVar("R", bound=Record)


class _SourceFetcher(FetcherInterface):
    """Gives python-tuf our sources; every failure is translated here, because it lets others through as they are."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @override
    def _fetch(self, url: str) -> Iterator[bytes]:
        stream = self._source.stream(url)
        if stream is None:
            raise DownloadHTTPError(f"{self._source.describe(url)} is not there", NOT_FOUND)
        return stream

    @override
    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Fetch a file of at most ``max_length`` bytes, with our retries."""
        try:
            data = fetch_small(self._source, url, max_length)
        except LadingError as error:
            raise DownloadError(str(error)) from error
        if data is None:
            raise DownloadHTTPError(f"{self._source.describe(url)} is not there", NOT_FOUND)
        yield io.BytesIO(data)


class Trust:
    """A repository whose metadata has been verified, now.

    Args:
        source: The repository.
        root: The bytes of a root metadata that the caller trusts, such as the one embedded in a client.
        folder: Keeps the newest metadata; for this process alone (hold a lock).

    Raises:
        SignatureInvalid: The metadata is not signed by enough trusted keys, or goes backwards.
        MetadataExpired: The metadata is past its expiry.
        SourceUnreachable: The repository cannot be reached.
        AccessDenied, DiskFull: The folder cannot be written.
    """

    def __init__(self, source: Source, root: bytes, folder: Path) -> None:
        self._source = source
        (folder / "targets").mkdir(parents=True, exist_ok=True)
        with _translated(source):
            self._updater = Updater(
                metadata_dir=str(folder),
                metadata_base_url=f"{METADATA}/",
                target_dir=str(folder / "targets"),
                target_base_url=f"{TARGETS}/",
                fetcher=_SourceFetcher(source),
                config=UpdaterConfig(),
                bootstrap=root,
            )
            self._updater.refresh()

    def channel(self, app: str, name: str) -> Channel:
        """The releases of a channel, newest first.

        Raises:
            SourceUnreachable: The repository has no such channel for this app, or cannot be reached.
            DigestMismatch, FormatInvalid: The published index is not the signed one, or not one that we can read.
        """
        channel = self._target(Channel, channel_target(app, name))
        if (channel.app, channel.channel) != (app, name):
            raise _mixed_up(f"the index of {app}'s channel {name} is that of {channel.app}'s {channel.channel}")
        return channel

    def release(self, entry: ChannelEntry, app: str) -> Release:
        """A release that a channel lists.

        Raises:
            SourceUnreachable: It is not there, or cannot be reached.
            DigestMismatch, FormatInvalid: It is not the signed one, or not one that we can read.
        """
        release = self._target(Release, entry.target)
        found = (release.app, release.version, release.platform, release.flavor)
        if found != (app, entry.version, entry.platform, entry.flavor):
            raise _mixed_up(f"{entry.target} describes {' '.join(found)}")
        return release

    def _target(self, kind: type[R], path: str) -> R:
        with _translated(self._source):
            info = self._updater.get_targetinfo(path)
            if info is None:
                raise SourceUnreachable(
                    f"The repository {self._source.describe('')} has no {path}.",
                    usually="The app or channel is misspelt, or nothing was published there yet.",
                    todo="Check the names; `--app` and `--channel` choose others.",
                )
            cached = self._updater.find_cached_target(info) or self._updater.download_target(info)
            data = Path(cached).read_bytes()
        return read_record(kind, data, origin=self._source.describe(f"{TARGETS}/{path}"))


@contextmanager
def _translated(source: Source) -> Iterator[None]:
    """Turn python-tuf's errors into ours."""
    base = source.describe("")
    try:
        yield
    except ExpiredMetadataError as error:
        raise MetadataExpired(
            f"The signatures of {base} are past their expiry: {error}.",
            usually="Nobody has signed the repository anew in time, this machine's clock is wrong, or somebody holds "
            "back newer metadata.",
            todo="Check this machine's clock; then tell the publisher. What is installed keeps running.",
        ) from error
    except LengthOrHashMismatchError as error:
        raise DigestMismatch(
            f"A file of {base} is not the one that was signed: {error}.",
            usually="It was damaged or altered on the way.",
            todo="Run the same command again; if it stays, use another source. Nothing was changed here.",
        ) from error
    except RepositoryError as error:
        raise SignatureInvalid(
            f"{base} is not the repository that the root metadata trusts: {error}.",
            usually="The wrong root.json was given, or the repository was altered, mixed up or set back.",
            todo="Get root.json from the publisher by a way that you trust. What is installed keeps running.",
        ) from error
    except DownloadError as error:
        _raise_download(error, base)
    except OSError as error:
        raise as_host_error(error, "keeping the repository's metadata") from error


def _raise_download(error: DownloadError, base: str) -> NoReturn:
    if isinstance(error.__cause__, LadingError):
        raise error.__cause__ from error
    raise SourceUnreachable(
        f"{base} does not look like a repository: {error}.",
        usually="The address or folder is wrong, or nothing was published there yet.",
        todo="Give the base under which metadata, targets and assets lie.",
    ) from error


def _mixed_up(what: str) -> FormatInvalid:
    return FormatInvalid(
        f"The repository contradicts itself: {what}.",
        usually="The publisher signed a mistake.",
        todo="Tell the publisher; nothing was changed here.",
    )
