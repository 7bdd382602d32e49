"""An S3 bucket, or R2, as a destination.

Objects are created only where nothing is (``If-None-Match: *``), and carry the SHA-256 that was verified before they
became visible. Nothing is ever replaced but ``metadata/timestamp.json``, and that only if it is the one that was read,
where the host can do so.

Under ``.lading-publish/`` lie the lease that keeps other publishers out and the notes about unfinished uploads. Both
are gone when a publication has ended well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lading.atomic import as_host_error
from lading.digest import sha256_bytes
from lading.errors import Busy, DigestMismatch, ObjectTaken
from lading.manifest.destination import S3Destination as Manifest
from lading.manifest.layout import ASSETS, METADATA
from lading.publish.attempts import Patience, persist
from lading.publish.destination import Listed, Sized, Stored
from lading.publish.headers import TIMESTAMP, Headers, headers_of
from lading.publish.lease import TTL, Found, Lease, names
from lading.publish.limits import check_sizes
from lading.publish.s3_bucket import Bucket, Condition
from lading.publish.s3_client import Settings, open_client, settings_of
from lading.publish.s3_errors import GOES_ON, NoConditions, Precondition
from lading.publish.s3_multipart import WORKERS, Multipart, Uploads
from lading.publish.s3_parts import LARGEST, PART, part_length, parts_of

OURS = ".lading-publish"
ABANDONED = 7 * 86_400.0  # seconds; R2 itself ends unfinished uploads after so long
FIRST_CONTACT = 4  # attempts: an endpoint that is mistyped shall not be tried for minutes
LOOKS = 20  # objects that are deleted between two looks at the lease
_CONTROL = Headers(content_type="application/json", cache_control="no-store")


class S3Destination:
    """Publishes into a bucket.

    Args:
        bucket: The bucket.
        prefix: Put before every key, without slashes at its ends.
        name: For messages.
        part: Length of the parts of large objects; files up to it are sent in one request.
        workers: How many parts are sent at a time.
        ttl: Seconds after which a publisher that gave no sign is taken to be gone.
        asset_limit: Bytes of the largest object.
    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str = "",
        *,
        name: str = "s3",
        part: int = PART,
        workers: int = WORKERS,
        ttl: float = TTL,
        asset_limit: int = LARGEST,
    ) -> None:
        self._bucket = bucket
        self._asset_limit = min(asset_limit, LARGEST)
        self._base = f"{prefix}/" if prefix else ""
        self._name = f"{name} ({bucket.where})"
        self._part = part
        self._uploads = Uploads(bucket, f"{self._base}{OURS}/uploads/")
        self._multipart = Multipart(bucket, self._uploads, part=part, workers=workers)
        first = replace(bucket.patience, attempts=min(bucket.patience.attempts, FIRST_CONTACT))
        leases = _BucketLeases(bucket.with_patience(first), f"{self._base}{OURS}/lease/")
        self._lease = Lease(leases, self._name, ttl=ttl)
        self._timestamp: Condition = None  # the one that was read; nothing was read yet when none

    @property
    def name(self) -> str:
        """For messages."""
        return self._name

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other publishers out; raises :class:`Busy` at once if one is in."""
        with self._lease.held():
            self._timestamp = None
            self._uploads.sweep(ABANDONED)
            yield

    def stat(self, path: str) -> Stored | None:
        """What lies under a path.

        The digest is the one that is kept with the object, which was verified before the object became visible. An
        object that another program put there has none and is read back in full.
        """
        key = self._key(path)
        head = self._bucket.head(key)
        if head is None:
            return None
        if head.sha256 is None:
            return self._bucket.digest(key)
        return Stored(size=head.size, sha256=head.sha256)

    def read(self, path: str) -> bytes | None:
        """A small object's bytes, or none."""
        found = self._bucket.get(self._key(path))
        if path == TIMESTAMP:
            self._timestamp = "absent" if found is None else found[1]
        return None if found is None else found[0]

    def close(self) -> None:
        """Let the connections go."""
        self._bucket.close()

    def get_file(self, path: str, target: Path) -> Stored | None:
        """Write an object's bytes into a file, and say what they are."""
        return self._bucket.fetch(self._key(path), target)

    def begun(self, path: str, stored: Stored) -> int:
        """Bytes of the parts that an earlier run left; whether they are the right ones is seen when they are used."""
        return 0 if stored.size <= self._part else self._multipart.begun(self._key(path), stored)

    def check(self, objects: Sequence[Sized]) -> None:
        """Refuse what is larger than the manifest or the protocol allows."""
        check_sizes(objects, self._asset_limit, self.name)

    def calls(self, objects: Sequence[Sized], files: Sequence[str]) -> Mapping[str, int]:
        """By the protocol's own names."""
        large = [item.size for item in objects if item.size > self._part]
        parts = sum(len(parts_of(size, part_length(size, self._part))) for size in large)
        return {
            "PutObject": len(objects) - len(large) + len(files),
            "CreateMultipartUpload": len(large),
            "UploadPart": parts,
            "CompleteMultipartUpload": len(large),
        }

    def put_file(self, path: str, source: Path, stored: Stored, advance: Callable[[int], None]) -> int:
        """Create an object from a file: small ones in one request, large ones in parts.

        Returns:
            Bytes that were sent: without the parts that an earlier run left.

        Raises:
            DigestMismatch: The bytes are not the given ones; the destination is unchanged.
            ObjectTaken: The name has other content by now; it is unchanged.
            AccessDenied: The file cannot be read.
            DestinationRefuses, Unavailable, ConfigError: The host refuses; run again to go on.
        """
        key = self._key(path)
        try:
            size = source.stat().st_size
            if size != stored.size:
                raise _not_as_packed(source, f"{size} bytes", stored)
            if size <= self._part:
                data = source.read_bytes()
                if sha256_bytes(data) != stored.sha256:
                    raise _not_as_packed(source, f"{len(data)} bytes with SHA-256 {sha256_bytes(data)}", stored)
                self._create(key, data, headers_of(path))
                advance(size)
                return size
            found, sent = self._multipart.put(key, source, stored, headers_of(path), advance)
        except Precondition:
            self._must_hold(path, stored)
            return 0
        except OSError as error:
            raise as_host_error(error, f"publishing {path}") from error
        if found != stored:
            raise _not_as_packed(source, f"{found.size} bytes with SHA-256 {found.sha256}", stored)
        return sent

    def put_bytes(self, path: str, data: bytes) -> int:
        """Create, or for ``timestamp.json`` replace, a small object at once.

        Raises:
            Busy: Another publisher has taken over meanwhile; what it wrote is unchanged.
            ObjectTaken: The name has other content; it is unchanged.
            DestinationRefuses, Unavailable, ConfigError: The host refuses; run again to go on.
        """
        if path.startswith(f"{METADATA}/"):
            self._lease.check()
        if path == TIMESTAMP:
            self._replace_timestamp(data)
            return len(data)
        try:
            self._create(self._key(path), data, headers_of(path))
        except Precondition:
            self._must_hold(path, Stored(size=len(data), sha256=sha256_bytes(data)))
            return 0
        return len(data)

    def lies_at(self, path: str) -> str:
        """Each asset is an object of its own."""
        return path

    def listing(self) -> Sequence[Listed]:
        """All objects below ``assets``."""
        return [
            Listed(name=item.key.removeprefix(self._base), size=item.size, age=item.age)
            for item in self._bucket.listing(self._key(f"{ASSETS}/"))
        ]

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects.

        Raises:
            Busy: Another publisher has taken over meanwhile.
            DestinationRefuses, Unavailable, ConfigError: The host refuses; run again to go on.
        """
        for number, name in enumerate(names):
            if not name.startswith(f"{ASSETS}/"):
                message = f"{name} is no asset"
                raise RuntimeError(message)
            if number % LOOKS == 0:
                self._lease.check()
            self._bucket.delete(self._key(name))

    def _key(self, path: str) -> str:
        return f"{self._base}{path}"

    def _create(self, key: str, data: bytes, headers: Headers) -> None:
        stored = Stored(size=len(data), sha256=sha256_bytes(data))

        def call() -> bool:
            try:
                self._bucket.put(key, data, headers, "absent")
            except NoConditions as error:
                if self._bucket.head(key) is not None:
                    raise Precondition(str(error)) from error
                self._bucket.put(key, data, headers)
            return True

        def arrived() -> bool | None:
            head = self._bucket.head(key)
            return True if head is not None and head.holds(stored) else None

        persist(call, self._bucket.patience, arrived)

    def _must_hold(self, path: str, stored: Stored) -> None:
        """Something appeared under a name meanwhile: it may only be what we wanted to put there."""
        found = self.stat(path)
        if found != stored:
            has = "nothing" if found is None else f"{found.size} bytes ({found.sha256})"
            raise ObjectTaken(
                f"{path} at {self.name} appeared meanwhile with {has}; ours has {stored.size} ({stored.sha256}).",
                usually="Another publisher, or a person, put something else there; it was left as it is.",
                todo="Run the same command again: it compares anew, and says what is in the way.",
            )

    def _replace_timestamp(self, data: bytes) -> None:
        key = self._key(TIMESTAMP)
        condition = self._timestamp

        def arrived() -> str | None:
            found = self._bucket.get(key)
            return found[1] if found is not None and found[0] == data else None

        def call() -> str:
            try:
                return self._bucket.put(key, data, headers_of(TIMESTAMP), condition)
            except NoConditions:
                return self._bucket.put(key, data, headers_of(TIMESTAMP))

        try:
            self._timestamp = persist(call, self._bucket.patience, arrived)
        except Precondition as error:
            etag = arrived()
            if etag is None:
                raise Busy(
                    f"{TIMESTAMP} at {self.name} was replaced by somebody else while we published.",
                    usually="Two jobs publish at the same time, one of them from a machine that slept meanwhile.",
                    todo=GOES_ON,
                ) from error
            self._timestamp = etag


class _BucketLeases:
    """Leases as objects of a bucket."""

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self._folder = folder
        self._etag: Condition = None

    def leases(self) -> tuple[Found, ...]:
        """All that are there."""
        return names({item.key: item.age for item in self._bucket.listing(self._folder)}, self._folder)

    def read(self, number: int) -> bytes | None:
        """One of them, or none."""
        found = self._bucket.get(self._key(number))
        return None if found is None else found[0]

    def create(self, number: int, data: bytes) -> bool:
        """Write one if there is none of this number."""
        try:
            self._etag = self._put(number, data, "absent")
        except Precondition:
            return self.read(number) == data
        return True

    def renew(self, number: int, data: bytes) -> bool:
        """Write one again, if it is ours still."""
        try:
            self._etag = self._put(number, data, self._etag)
        except Precondition:
            return self.read(number) == data
        return True

    def remove(self, number: int) -> None:
        """Remove one, if it is there."""
        self._bucket.delete(self._key(number))

    def _put(self, number: int, data: bytes, condition: Condition) -> str:
        key = self._key(number)

        def call() -> str:
            try:
                return self._bucket.put(key, data, _CONTROL, condition)
            except NoConditions as error:
                expected = None if condition == "absent" else data
                if self.read(number) != expected:
                    raise Precondition(str(error)) from error
                return self._bucket.put(key, data, _CONTROL)

        return persist(call, self._bucket.patience)

    def _key(self, number: int) -> str:
        return f"{self._folder}{number}.json"


def open_s3(
    manifest: Manifest, name: str, *, environment: Mapping[str, str] | None = None, patience: Patience | None = None
) -> S3Destination:
    """Open a bucket that a manifest names.

    Args:
        manifest: The destination's.
        name: What the manifest calls it.
        environment: As ``os.environ``.
        patience: How hard to try.

    Returns:
        The destination; nothing was asked of the host yet.

    Raises:
        CredentialsMissing: There are none.
        ConfigError: The account is none, or the settings make no client.
    """
    settings = settings_of(manifest, os.environ if environment is None else environment)
    bucket = open_bucket(settings, patience=patience)
    return S3Destination(bucket, settings.prefix, name=name, asset_limit=manifest.asset_limit)


def open_bucket(settings: Settings, *, workers: int = WORKERS, patience: Patience | None = None) -> Bucket:
    """Open a bucket.

    Args:
        settings: Where.
        workers: How many parts are sent at a time.
        patience: How hard to try.

    Raises:
        CredentialsMissing, ConfigError: As :func:`open_s3`.
    """
    client = open_client(settings, connections=workers + 2)
    return Bucket(client, settings.bucket, where=settings.url, patience=patience or Patience())


def _not_as_packed(source: Path, found: str, stored: Stored) -> DigestMismatch:
    return DigestMismatch(
        f"{source} has {found}; the release says {stored.size} bytes with {stored.sha256}.",
        usually="The file was changed or cut off after it was packed.",
        todo="Pack again, then publish; nothing of this release is visible yet.",
    )
