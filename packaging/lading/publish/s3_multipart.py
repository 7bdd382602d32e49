"""A large file into a bucket: in parts, several at a time, continued from the parts that are there already.

The file is read once, in order, to digest it as a whole and in parts; each part is sent as soon as it was digested,
read again from the file where it lies, so that no part is ever wholly in memory. The object appears when everything was
sent and the whole file's digest is the right one.

What an unfinished upload is for cannot be asked of a host. A note beside it says so (:class:`UploadNote`): an upload
without a note, or for other content, is given up, never continued.

Invariants:
    * A part whose answer got lost is looked for before it is sent again.
    * An upload is continued only for the same content and the same length of parts.
    * An object that is there is never replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from lading.digest import sha256_bytes
from lading.errors import DestinationUnreachable, FormatInvalid
from lading.manifest.base import Record, Sha256, canonical_json, read_record
from lading.publish.attempts import LOG, persist
from lading.publish.destination import Stored
from lading.publish.headers import Headers
from lading.publish.s3_bucket import Bucket
from lading.publish.s3_errors import GOES_ON, NoConditions, Precondition, UploadGone
from lading.publish.s3_parts import PART, Digests, Part, PartThere, counts, part_length, parts_of
from lading.publish.section import FileSection, Mark

E = TypeVar("E", bound=BaseException)

WORKERS = 4
_NOTE_HEADERS = Headers(content_type="application/json", cache_control="no-store")


class UploadNote(Record):
    """What an unfinished upload is for.

    Attributes:
        schema: Names this format.
        key: The object's key.
        upload: The host's id of the upload.
        size, sha256: What the object's bytes will be.
        part: Length of all parts but the last.
    """

    schema_: Literal["lading/upload/1"] = Field(default="lading/upload/1", alias="schema")
    key: str
    upload: str
    size: int
    sha256: Sha256
    part: int


class Uploads:
    """Unfinished uploads and their notes.

    Args:
        bucket: Where.
        folder: Where the notes lie, with a slash at its end.
    """

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self._folder = folder

    def note_key(self, key: str) -> str:
        """Where the note about an object's upload lies."""
        return f"{self._folder}{sha256_bytes(key.encode())[:32]}.json"

    def take(self, key: str, stored: Stored, part: int, headers: Headers) -> tuple[UploadNote, Mapping[int, PartThere]]:
        """Find the upload that can be continued, or begin one; give up all others of this object.

        Args:
            key: The object's key.
            stored: What its bytes are.
            part: Length of the parts of a new upload.
            headers: What is stored beside it.

        Returns:
            The upload and the parts that it has.
        """
        note = self._note(key)
        alive = self._alive(key)
        fits = note is not None and (note.key, note.size, note.sha256) == (key, stored.size, stored.sha256)
        kept = note.upload if note is not None and fits and note.upload in alive else None
        for upload in alive - {kept}:
            self._bucket.abort(key, upload)
        if kept is not None and note is not None:
            try:
                return note, self._bucket.parts(key, kept)
            except UploadGone:  # ended between the two questions
                LOG.info("the upload of %s is gone; beginning anew", key)
        return self._begin(key, stored, part, headers), {}

    def find(self, key: str, stored: Stored) -> tuple[UploadNote, Mapping[int, PartThere]] | None:
        """The upload that can be continued and the parts that it has, or none; changes nothing."""
        note = self._note(key)
        if note is None or (note.key, note.size, note.sha256) != (key, stored.size, stored.sha256):
            return None
        try:
            return note, self._bucket.parts(key, note.upload)
        except UploadGone:
            return None

    def _begin(self, key: str, stored: Stored, part: int, headers: Headers) -> UploadNote:
        def begun() -> str | None:
            return next(iter(self._alive(key)), None)

        upload = persist(lambda: self._bucket.begin(key, stored.sha256, headers), self._bucket.patience, begun)
        note = UploadNote(key=key, upload=upload, size=stored.size, sha256=stored.sha256, part=part)
        data = canonical_json(note)
        persist(lambda: self._bucket.put(self.note_key(key), data, _NOTE_HEADERS), self._bucket.patience)
        return note

    def finish(self, key: str) -> None:
        """End what is unfinished of an object, and remove the note: the object is there, or is not wanted any more.

        There may be more than the upload that the note is about: the host may carry out late what nobody waited for.
        """
        for upload in self._alive(key):
            self._bucket.abort(key, upload)
        self._bucket.delete(self.note_key(key))

    def sweep(self, longest: float) -> None:
        """Remove notes about uploads that are finished, and give up those that nobody has gone on with.

        Args:
            longest: Seconds that an upload may wait for somebody to go on with it.
        """
        for listed in self._bucket.listing(self._folder):
            note = self._read(listed.key)
            if note is None:
                self._bucket.delete(listed.key)
            elif listed.age > longest or note.upload not in self._alive(note.key):
                self.finish(note.key)

    def _alive(self, key: str) -> frozenset[str]:
        return frozenset(upload for found, upload in self._bucket.uploads(key) if found == key)

    def _note(self, key: str) -> UploadNote | None:
        return self._read(self.note_key(key))

    def _read(self, key: str) -> UploadNote | None:
        found = self._bucket.get(key)
        if found is None:
            return None
        try:
            return read_record(UploadNote, found[0], origin=key)
        except FormatInvalid as error:  # of another version of Lading, or damaged: as if there were none
            LOG.info("%s", error)
            return None


class Multipart:
    """Uploads large files.

    Args:
        bucket: Where to.
        uploads: Knows the unfinished ones.
        part: Length of all parts but the last; more for files of which that made more than 10,000.
        workers: How many parts are sent at a time.
    """

    def __init__(self, bucket: Bucket, uploads: Uploads, *, part: int = PART, workers: int = WORKERS) -> None:
        self._bucket = bucket
        self._uploads = uploads
        self._part = part
        self._workers = workers

    def begun(self, key: str, stored: Stored) -> int:
        """Bytes of the parts that an earlier run left of an object."""
        found = self._uploads.find(key, stored)
        if found is None:
            return 0
        note, there = found
        lengths = {part.number: part.length for part in parts_of(stored.size, note.part)}
        return sum(part.length for number, part in there.items() if lengths.get(number) == part.length)

    def put(
        self, key: str, source: Path, stored: Stored, headers: Headers, advance: Callable[[int], None]
    ) -> tuple[Stored, int]:
        """Upload a file.

        Args:
            key: The object's key, under which nothing is.
            source: The file.
            stored: What its bytes must be.
            headers: What is stored beside them.
            advance: Hears of bytes that are there.

        Returns:
            What the file is, and how many bytes were sent. When that is not what it must be, nothing is there.

        Raises:
            Precondition: Something has appeared under the key meanwhile.
            LadingError: The host refuses; a later call goes on.
        """
        length = part_length(stored.size, self._part)
        note, there = self._uploads.take(key, stored, length, headers)
        parts = parts_of(stored.size, note.part)
        sending = _Sending(self._bucket, note, source, there, advance, workers=self._workers)
        found, etags = sending.run(parts)
        if found != stored:
            self._uploads.finish(key)
            return found, sending.sent
        try:
            self._complete(note, etags, stored)
        except Precondition:
            self._uploads.finish(key)
            raise
        self._uploads.finish(key)
        return found, sending.sent

    def _complete(self, note: UploadNote, etags: list[str], stored: Stored) -> None:
        def arrived() -> bool | None:
            head = self._bucket.head(note.key)
            return True if head is not None and head.holds(stored) else None

        def call() -> bool:
            try:
                self._bucket.complete(note.key, note.upload, etags, only_if_absent=True)
            except NoConditions as error:
                if self._bucket.head(note.key) is not None:
                    raise Precondition(str(error)) from error
                self._bucket.complete(note.key, note.upload, etags, only_if_absent=False)
            except UploadGone as error:
                if arrived():
                    return True
                raise _gone(self._bucket.where, note.key) from error
            return True

        persist(call, self._bucket.patience, arrived)


class _Stopped(Exception):
    """Another part has failed for good."""


class _Sending:
    """One run over a file: a reader that digests, and workers that send."""

    def __init__(
        self,
        bucket: Bucket,
        note: UploadNote,
        source: Path,
        there: Mapping[int, PartThere],
        advance: Callable[[int], None],
        *,
        workers: int,
    ) -> None:
        self._bucket = bucket
        self._note = note
        self._source = source
        self._there = there
        self._advance = advance
        self._workers = workers
        self.sent = 0  # bytes of the parts that were not there
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._patience = replace(bucket.patience, sleep=self._sleep)

    def run(self, parts: tuple[Part, ...]) -> tuple[Stored, list[str]]:
        """Send what is not there; give what the file is, and the parts' ETags."""
        digests = Digests()
        slots = threading.BoundedSemaphore(self._workers)
        etags: list[Future[str] | str] = []
        with ThreadPoolExecutor(self._workers, "lading-part") as pool, self._source.open("rb", buffering=0) as stream:
            try:
                for part, md5 in digests.read(stream, parts):
                    if counts(part, md5, self._there):
                        self._advance(part.length)
                        etags.append(md5)
                        continue
                    slots.acquire()
                    if self._stop.is_set():
                        break
                    self.sent += part.length
                    future = pool.submit(self._send, part, md5)
                    future.add_done_callback(lambda _: slots.release())
                    etags.append(future)
                found = [etag if isinstance(etag, str) else etag.result() for etag in etags]
            except BaseException as error:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, (_Stopped, CancelledError)) and self._failure is not None:
                    raise self._failure from None
                raise
        return digests.stored, found

    def _send(self, part: Part, md5: str) -> str:
        mark = Mark(self._heard)

        def call() -> str:
            if self._stop.is_set():
                raise _Stopped
            with FileSection(self._source, part.start, part.length, mark) as section:
                return self._bucket.upload_part(self._note.key, self._note.upload, part.number, section, md5)

        def arrived() -> str | None:
            if self._stop.is_set():
                raise _Stopped
            there = self._bucket.parts(self._note.key, self._note.upload, only=part.number)
            return md5 if counts(part, md5, there) else None

        try:
            etag = persist(call, self._patience, arrived)
        except UploadGone as error:
            raise self._fail(_gone(self._bucket.where, self._note.key)) from error
        except BaseException as error:
            self._fail(error)
            raise
        mark.at(part.length)
        return etag

    def _heard(self, amount: int) -> None:
        """Bytes are on their way. An exception here would pass for one of the network, so the failure is noted."""
        if self._stop.is_set():
            raise _Stopped
        try:
            self._advance(amount)
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: E) -> E:
        """Let the other workers end; the first failure is the one that is told."""
        if self._failure is None and not isinstance(error, _Stopped):
            self._failure = error
        self._stop.set()
        return error

    def _sleep(self, seconds: float) -> None:
        """Wait, unless another part has failed for good."""
        self._stop.wait(seconds)


def _gone(where: str, key: str) -> DestinationUnreachable:
    return DestinationUnreachable(
        f"{where} has ended the unfinished upload of {key}.",
        usually="Another program gave it up, or a rule of the bucket ends unfinished uploads after some days.",
        todo=GOES_ON,
    )
