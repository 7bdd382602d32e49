"""A folder as a destination: any web server can serve it, and any object store can be filled from it.

Assets are hard links to the packed files where the file system allows, copies elsewhere: packed files are written under
other names and renamed, never changed in place, so a link is as good as a copy and costs nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lading.atomic import as_host_error, fsync_folder, write_atomic
from lading.digest import sha256_file, sha256_stream
from lading.errors import Busy, ConfigError, DigestMismatch, ToolMissing
from lading.manifest.destination import S3Destination as S3Manifest
from lading.manifest.layout import ASSETS
from lading.manifest.names import checksum_name
from lading.manifest.project import load_project
from lading.publish.destination import Destination, Listed, Sized, Stored
from lading.publish.limits import check_sizes

LOCK = ".lading-publish.lock"
READABLE = 0o644


class FolderDestination:
    """Publishes into a folder.

    Args:
        folder: The repository's base; made if need be.
        name: For messages.
        asset_limit: Bytes of the largest object; none for any size.
    """

    def __init__(self, folder: Path, *, name: str = "folder", asset_limit: int | None = None) -> None:
        self.folder = folder
        self._name = name
        self._asset_limit = asset_limit

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self._name} ({self.folder})"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other publishers out; raises :class:`Busy` at once if one is in."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK, timeout=0):
                yield
        except Timeout as error:
            raise Busy(
                f"Another publisher is writing to {self.folder}.",
                usually="Two jobs publish at the same time.",
                todo="Wait for the other one, then run the same command again: what is there is not published twice.",
            ) from error
        except OSError as error:
            raise self._refusal(error, f"publishing to {self.folder}") from error

    def stat(self, path: str) -> Stored | None:
        """What lies under a path.

        The digest is the one in the checksum file beside it, which is written after the object was verified; an object
        without one is digested. That a disk damages a published file later is for ``lading verify`` to find.
        """
        file = self.folder / path
        if not file.is_file():
            return None
        recorded = _recorded_digest(file)
        return Stored(size=file.stat().st_size, sha256=recorded or sha256_file(file))

    def read(self, path: str) -> bytes | None:
        """A small object's bytes, or none."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refusal(error, f"reading {path}") from error

    def _refusal(self, error: OSError, doing: str) -> Exception:
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            return ConfigError(
                f"{self.folder} cannot be used as a destination: {error.strerror}.",
                usually="There is a file where the folder, or one above it, should be.",
                todo="Correct the path, or move the file away.",
            )
        return as_host_error(error, doing)

    def close(self) -> None:
        """Nothing is open."""

    def get_file(self, path: str, target: Path) -> Stored | None:
        """Copy an object into a file, and say what it is."""
        try:
            shutil.copyfile(self.folder / path, target)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise as_host_error(error, f"reading {path}") from error
        return Stored(size=target.stat().st_size, sha256=sha256_file(target))

    def begun(self, path: str, stored: Stored) -> int:  # noqa: ARG002 (the protocol's names)
        """Nothing: a copy that was broken off is removed."""
        return 0

    def check(self, objects: Sequence[Sized]) -> None:
        """Refuse what is larger than the manifest says; a folder by itself takes all."""
        if self._asset_limit is not None:
            check_sizes(objects, self._asset_limit, self.name)

    def calls(self, objects: Sequence[Sized], files: Sequence[str]) -> Mapping[str, int]:
        """Links or copies, and files written."""
        return {"link or copy": len(objects), "write": len(files)}

    def put_file(self, path: str, source: Path, stored: Stored, advance: Callable[[int], None]) -> int:
        """Link or copy a file under a temporary name, verify it, then rename it into place.

        Returns:
            Bytes that were copied: none of a file that could be linked.

        Raises:
            DigestMismatch: The bytes are not the given ones; the destination is unchanged.
            AccessDenied, DiskFull: The system refuses; the destination is unchanged.
        """
        final = self.folder / path
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with _temporary_beside(final) as temporary:
                found, linked = _take(source, temporary, advance)
                if found != stored:
                    raise DigestMismatch(
                        f"{source} has {found.size} bytes with SHA-256 {found.sha256}; "
                        f"the release says {stored.size} bytes with {stored.sha256}.",
                        usually="The file was changed or cut off after it was packed.",
                        todo="Pack again, then publish; nothing of this release is visible yet.",
                    )
                temporary.replace(final)
                fsync_folder(final.parent)
        except OSError as error:
            raise as_host_error(error, f"publishing {path}") from error
        return 0 if linked else stored.size

    def put_bytes(self, path: str, data: bytes) -> int:
        """Write a small object atomically."""
        write_atomic(self.folder / path, data, mode=READABLE)
        return len(data)

    def lies_at(self, path: str) -> str:
        """Each asset is a file of its own."""
        return path

    def listing(self) -> Sequence[Listed]:
        """All files below ``assets``, with what a killed publisher left among them; links are not followed."""
        now = time.time()
        found = []
        try:
            for folder, _, names in os.walk(self.folder / ASSETS, onerror=_raise):
                for file in (Path(folder, name) for name in names):
                    fact = file.lstat()
                    name = file.relative_to(self.folder).as_posix()
                    found.append(Listed(name=name, size=fact.st_size, age=now - fact.st_mtime))
        except FileNotFoundError:  # nothing was published there yet
            return []
        except OSError as error:
            raise as_host_error(error, f"listing {self.folder}") from error
        return sorted(found, key=lambda item: item.name)

    def remove(self, names: Sequence[str]) -> None:
        """Delete files, and folders that are empty then.

        Raises:
            AccessDenied: The system refuses, because a file is open (Windows) or the folder may only be read.
        """
        assets = self.folder / ASSETS
        for name in names:
            file = self.folder / name
            if assets not in file.parents or ".." in file.parts:
                message = f"{name} is no asset"
                raise RuntimeError(message)
            try:
                file.unlink(missing_ok=True)
                for parent in file.parents:
                    if parent == assets or not parent.is_dir() or any(parent.iterdir()):
                        break
                    parent.rmdir()
            except OSError as error:
                raise as_host_error(error, f"deleting {file}") from error


def open_destination(text: str, project: Path) -> Destination:
    """Open a destination.

    Args:
        text: A destination's name in the project's manifests, or a folder's path (with a separator, or ``.``).
        project: The project's folder, in which relative paths of manifests begin.

    Returns:
        The destination.

    Raises:
        ManifestInvalid: The project has no destination of that name.
        ConfigError: It is not configured.
        CredentialsMissing: There are none for it.
        ToolMissing: Lading was installed without what a bucket needs.
    """
    if text in {".", ".."} or "/" in text or os.sep in text:
        return FolderDestination(Path(text))
    record = load_project(project).destination(text)
    if record.kind == "s3":
        return _open_bucket(record, text)
    if record.kind == "github":
        from lading.publish.github import open_github  # noqa: PLC0415 (a folder needs none of it)

        return open_github(record, name=text)
    return FolderDestination(project / record.path, name=text, asset_limit=record.asset_limit)


def _open_bucket(record: S3Manifest, name: str) -> Destination:
    try:
        from lading.publish.s3 import open_s3  # noqa: PLC0415 (its client takes longer to import than all the rest)
    except ModuleNotFoundError as error:
        raise ToolMissing(
            f"Publishing to the bucket {record.bucket} needs the package {error.name}, which is not installed.",
            usually="Lading was installed without what only publishing to S3 and R2 needs.",
            todo="python -m pip install 'lading[s3]'",
        ) from error
    return open_s3(record, name)


def _raise(error: OSError) -> None:
    """What cannot be listed is not passed over."""
    raise error


def _recorded_digest(file: Path) -> str | None:
    beside = file.with_name(checksum_name(file.name))
    try:
        digest, _, name = beside.read_text("utf-8").rstrip("\n").partition("  ")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return digest if name == file.name and len(digest) == 64 else None  # noqa: PLR2004 (hexadecimal digits of SHA-256)


@contextmanager
def _temporary_beside(final: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".part-", dir=final.parent))
    try:
        yield folder / final.name
    finally:
        shutil.rmtree(folder)


def _take(source: Path, temporary: Path, advance: Callable[[int], None]) -> tuple[Stored, bool]:
    """Bring a file under a temporary name, durably, and say what it is and whether that took no copying."""
    linked = False
    with suppress(OSError):  # another file system, or one without hard links: copy
        os.link(source, temporary)
        linked = True
    if not linked:
        shutil.copyfile(source, temporary)
        temporary.chmod(READABLE)
    with temporary.open("rb", buffering=0) as stream:
        sha256, size = sha256_stream(stream, advance)
        if os.name == "posix":  # Windows flushes only handles that may write
            os.fsync(stream.fileno())
    return Stored(size=size, sha256=sha256), linked
