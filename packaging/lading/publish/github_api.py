"""GitHub's API: one client with a token, rate limits that are waited for, and failures told apart.

A request that got no answer, or 5xx, may have been carried out or not. Those that may be sent twice are sent again
here; for the others :meth:`GitHubApi.settled` asks what has become of them before it repeats anything.

The token goes to the API's and the upload host alone, never along a redirect, and is never shown. Nothing is decided
here about releases or branches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import override

from lading.errors import CredentialsRefused, DestinationUnreachable, LadingError, RateLimited
from lading.fetch.certificates import tls_context
from lading.manifest.github_layout import GitHubRepository
from lading.publish.attempts import LOG, Passing, Patience, persist
from lading.publish.destination import Stored
from lading.publish.github_errors import error_of, refusal_of
from lading.publish.github_limits import Budget, budget_of, pause_of, server_time

ATTEMPTS = 5
BACKOFF = 2.0  # seconds before the second attempt at the most; doubled each time
PATIENCE = 600.0  # seconds that are waited for a rate limit in all; less than a publisher's lock is good for
PAGE = 100  # entries of a list at once, the most there are
BLOCK = 2**20  # bytes sent or received at once
TIMEOUT = httpx.Timeout(60.0, connect=15.0)
UPLOAD_TIMEOUT = httpx.Timeout(300.0, connect=15.0)  # after the last byte of 2 GB the host takes its time to answer
_SERVER_ERROR, _OK = 500, frozenset({200, 201, 202, 204})


class Answer(BaseModel):
    """What the API answers; what we do not use is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


A = TypeVar("A", bound=Answer)
T = TypeVar("T")


class Unanswered(DestinationUnreachable):
    """A request whose outcome is not known: it may have been carried out."""

    @property
    @override
    def kind(self) -> str:
        """To the outside the host cannot be reached."""
        return DestinationUnreachable.__name__


class GitHubApi:
    """Sends requests for one repository.

    Args:
        repository: Which one.
        token: Proves who we are; none where the environment has none.
        api: The API's base address, when it is not the usual one.
        sleep: Waits for a number of seconds.
        patience: Seconds that are waited for rate limits in all.
    """

    def __init__(
        self,
        repository: GitHubRepository,
        token: str | None,
        *,
        api: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self.repository = repository
        self.budget: Budget | None = None
        self.requests = 0
        self._base = f"{(api or repository.api).rstrip('/')}/repos/{repository.name}"
        self._token = token
        self._sleep = sleep
        self._limit_patience = patience
        self._now: float | None = None

    @property
    def now(self) -> float:
        """The server's time at its last answer, seconds since 1970: ours may be wrong."""
        return time.time() if self._now is None else self._now

    def close(self) -> None:
        """Let the connections go."""
        if "_client" in self.__dict__:
            self._client.close()
            del self.__dict__["_client"]

    def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str | int] | None = None,
        again: bool = True,
        also: frozenset[int] = frozenset(),
        writing: bool | None = None,
    ) -> httpx.Response:
        """Send a request.

        Args:
            method: ``GET`` and the like.
            path: Below the repository.
            doing: What for, for messages.
            json: The body.
            params: The query.
            again: It may be sent twice.
            also: Statuses that are an answer to the caller, beside success.
            writing: It changes something; told by the method when not given.

        Raises:
            Unanswered: Nobody knows whether it was carried out.
            CredentialsRefused, PermissionMissing, DestinationMissing, RateLimited, Unavailable: It was not.
        """
        address = f"{self._base}{path}"

        def build() -> httpx.Request:
            return self._client.build_request(method, address, json=json, params=params, timeout=TIMEOUT)

        answer = self._answer(build, doing, again=again)
        if answer.status_code in _OK or answer.status_code in also:
            return answer
        raise self.refused(answer, doing, writing=method != "GET" if writing is None else writing)

    def get(self, kind: type[A], path: str, *, doing: str) -> A | None:
        """Read something, or give none when it is not there."""
        answer = self.call("GET", path, doing=doing, also=frozenset({404}))
        return None if answer.status_code == httpx.codes.NOT_FOUND else self.parsed(kind, answer)

    def listed(self, kind: type[A], path: str, *, doing: str) -> Iterator[A]:
        """Read a list, page by page, to its end."""
        page = 1
        while True:
            answer = self.call("GET", path, doing=doing, params={"per_page": PAGE, "page": page})
            for entry in _json(answer):
                yield self.parsed(kind, entry)
            if "next" not in answer.links:
                return
            page += 1

    def upload(
        self, template: str, name: str, size: int, blocks: Callable[[], Iterator[bytes]], *, doing: str
    ) -> httpx.Response:
        """Send a file to where a release takes its assets.

        Args:
            template: The release's ``upload_url``.
            name: The asset's.
            size: Bytes.
            blocks: Gives the bytes; called anew for each attempt.
            doing: What for, for messages.

        Raises:
            Unanswered: The asset may be there, whole or in part.
        """
        address = template.partition("{")[0]
        if urlsplit(address).scheme != urlsplit(self._base).scheme:
            raise self._strange(f"it wants assets to be sent to {urlsplit(address).netloc} unsecured")
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}

        def build() -> httpx.Request:
            return self._client.build_request(
                "POST", address, params={"name": name}, headers=headers, content=blocks(), timeout=UPLOAD_TIMEOUT
            )

        return self._answer(build, doing, again=False)

    def digest(self, path: str, *, doing: str, target: Path | None = None) -> Stored:
        """Download an asset and say what it is.

        Args:
            path: The asset's, below the repository.
            doing: What for, for messages.
            target: A file that gets its bytes.
        """

        def attempt() -> Stored:
            try:
                return self._digest(path, doing, target or Path(os.devnull))
            except httpx.TransportError as error:
                raise self._unanswered(doing, _why(error)) from error

        return self.settled(attempt, lambda: None)

    def settled(self, attempt: Callable[[], T], look: Callable[[], T | None]) -> T:
        """Do what must happen once.

        Args:
            attempt: Does it.
            look: Says whether it has happened, after an attempt whose outcome is not known.

        Returns:
            What either of them gave.

        Raises:
            Unanswered: It never happened, however often it was tried.
        """
        patience = Patience(attempts=ATTEMPTS, first=BACKOFF, sleep=self._sleep)
        return persist(lambda: _may_pass(attempt), patience, look)

    def parsed(self, kind: type[A], answer: httpx.Response | Any) -> A:
        """Read an answer.

        Raises:
            DestinationUnreachable: It is not what GitHub answers.
        """
        try:
            return kind.model_validate(_json(answer) if isinstance(answer, httpx.Response) else answer)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise self._strange(f"its answer has no usable {where or kind.__name__} ({first['msg']})") from error

    def refused(self, answer: httpx.Response, doing: str, *, writing: bool) -> LadingError:
        """The error for an answer that says no."""
        return error_of(refusal_of(answer.status_code, _loose(answer)), self.repository, doing, writing=writing)

    @cached_property
    def _client(self) -> httpx.Client:
        if not self._token:
            raise CredentialsRefused(
                f"There is no token for {self.repository.page}.",
                usually="Neither GH_TOKEN nor GITHUB_TOKEN is set, or they are empty.",
                todo="Set one of them to a token that may write the repository's contents; see "
                "`gh auth token`, or in a workflow `${{ github.token }}`.",
            )
        if not self._token.isascii() or not self._token.isprintable() or " " in self._token:
            raise CredentialsRefused(
                f"The token for {self.repository.page} has characters that no token has.",
                usually="It was pasted with a line break, or it is still a placeholder.",
                todo="Set GH_TOKEN or GITHUB_TOKEN to the token alone.",
            )
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "User-Agent": f"lading/{version('lading')}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        return httpx.Client(headers=headers, verify=tls_context(), timeout=TIMEOUT)

    def _answer(self, build: Callable[[], httpx.Request], doing: str, *, again: bool) -> httpx.Response:
        if again:
            return self.settled(lambda: self._once(build, doing), lambda: None)
        return self._once(build, doing)

    def _once(self, build: Callable[[], httpx.Request], doing: str) -> httpx.Response:
        """One attempt; a limit is waited for, because what meets it was not carried out."""
        waits, waited = 0, 0.0
        while True:
            self.requests += 1
            try:
                answer = self._client.send(build())
            except httpx.TransportError as error:
                raise self._unanswered(doing, _why(error)) from error
            self._note(answer)
            pause = pause_of(answer.status_code, answer.headers, refusal_of(0, _loose(answer)).message, waits)
            if pause is None:
                break
            waited += pause
            self._wait_for_limit(pause, waited, doing)
            waits += 1
        if answer.status_code >= _SERVER_ERROR:
            raise self._unanswered(doing, f"{answer.status_code} {answer.reason_phrase}".rstrip())
        return answer

    def _digest(self, path: str, doing: str, target: Path) -> Stored:
        self.requests += 1
        digest, size = sha256(), 0
        headers = {"Accept": "application/octet-stream"}
        with (
            target.open("wb") as file,
            self._client.stream("GET", f"{self._base}{path}", headers=headers, follow_redirects=True) as answer,
        ):
            if answer.status_code >= _SERVER_ERROR:
                raise self._unanswered(doing, f"{answer.status_code} {answer.reason_phrase}".rstrip())
            if answer.status_code not in _OK:
                answer.read()
                raise self.refused(answer, doing, writing=False)
            for block in answer.iter_raw(BLOCK):
                digest.update(block)
                file.write(block)
                size += len(block)
        return Stored(size=size, sha256=digest.hexdigest())

    def _note(self, answer: httpx.Response) -> None:
        self._now = server_time(answer.headers) or self._now
        self.budget = budget_of(answer.headers) or self.budget

    def _wait_for_limit(self, pause: float, waited: float, doing: str) -> None:
        left = f" ({self.budget})" if self.budget else ""
        if waited > self._limit_patience:
            raise RateLimited(
                f"{self.repository.page} wants us to wait {pause:.0f} s before {doing}{left}.",
                usually="Many requests were made with this token within the last hour, perhaps by other jobs.",
                todo="Run the same command again after that time: what is there is not sent twice.",
            )
        LOG.warning("GitHub's rate limit: waiting %.0f s before %s%s", pause, doing, left)
        self._sleep(pause)

    def _unanswered(self, doing: str, why: str) -> Unanswered:
        return Unanswered(
            f"{self.repository.page} gave no answer to {doing}: {why}.",
            usually="The network or GitHub had a moment's trouble.",
            todo="Run the same command again: what is there is not sent twice.",
        )

    def _strange(self, why: str) -> DestinationUnreachable:
        return DestinationUnreachable(
            f"{self._base} does not answer like GitHub: {why}.",
            usually="The API's address is wrong, or a proxy answers in its place.",
            todo="Check `api` in the destination's manifest.",
        )


def _may_pass(attempt: Callable[[], T]) -> T:
    try:
        return attempt()
    except Unanswered as error:
        raise Passing(error) from error


def _why(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise DestinationUnreachable(
            f"{answer.url.copy_with(query=None)} does not answer in JSON ({answer.headers.get('Content-Type', '')}).",
            usually="The API's address is wrong, or a proxy answers in its place.",
            todo="Check `api` in the destination's manifest.",
        ) from error


def _loose(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text
