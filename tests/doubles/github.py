"""GitHub's releases and Git API as far as publishing and downloading need them: a double that keeps state.

It follows what the API's documentation says and what users have met:

    * drafts are seen by those who may write, and only in the list; several may have one tag
    * an asset's name occurs once in a release (422 ``already_exists``); special characters are renamed
    * an upload that the backend failed at answers 502 and may leave an asset in the state ``starter``
    * a release that was published as immutable holds its tag; when it is deleted, the tag may be deleted, and no
      release ever takes it again
    * at most 1000 assets (422 ``file_count``), each of at most 2 GiB; a release that is immutable takes none
    * lists come in pages of 30, at the most 100, with a ``Link`` header
    * a download redirects to a signed address on another host that expires; single ranges only there
    * what a token may not see is 404; what it may see and not change is 403, for some tokens 404
    * the primary rate limit is in the headers of every answer; secondary limits answer 403 or 429
    * raw files of a branch may come from a cache

Faults are put into :attr:`GitHubDouble.faults`. Every request and every stored upload is counted. It is held to
GitHub's own description of its API by ``test_github_contract.py``.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import mmap
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, urlencode

from tests.doubles.github_git import Commit, Git, Refused
from tests.doubles.github_http import Reply, Request, served

KEPT = 64 * 2**20  # bytes of an asset that are kept in memory; of larger ones only the digest, unless there is a spool
ASSET_LIMIT = 2 * 2**30
ASSETS_LIMIT = 1000
BODY_LIMIT = 125_000
SECRET = b"the storage's key"


@dataclass(frozen=True)
class Token:
    """Whom a token belongs to, and what it may do; ``hides`` answers 404 to writes that it may not do."""

    user: str = "alice"
    write: bool = True
    hides: bool = False
    sees_private: bool = True


STRANGER = Token(user="", write=False, sees_private=False)


@dataclass
class Asset:
    id: int
    name: str
    size: int
    state: str
    sha256: str | None
    data: bytes | mmap.mmap | None


@dataclass
class Release:
    id: int
    tag: str
    name: str
    body: str
    draft: bool
    target: str
    immutable: bool = False
    assets: dict[str, Asset] = field(default_factory=dict)
    prerelease: bool = False
    published: str | None = None
    latest: str = ""


@dataclass
class Repo:
    """One repository."""

    name: str
    git: Git
    private: bool = False
    archived: bool = False
    immutable: bool = False
    protected: bool = False
    renamed: bool = False
    releases: dict[int, Release] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)


@dataclass
class Fault:
    """What happens to the requests that it is meant for.

    Attributes:
        method, part: Which requests: the method, and what their path contains.
        how: ``502`` before anything is done; ``lost`` done, but the connection is closed without an answer;
            ``502-done`` done, answered 502; ``starter`` an upload that leaves an asset in that state, answered 502;
            ``cut`` an upload of which so many bytes are read before the connection is closed, leaving a ``starter``;
            ``renamed`` stores under another name; ``altered`` stores other bytes; ``answer`` answers with
            :attr:`reply`.
        times: For how many requests.
        after: How many requests that it is meant for pass before.
        cut: Bytes.
        reply: For ``answer``.
    """

    method: str
    part: str
    how: str
    times: int = 1
    after: int = 0
    cut: int = 1000
    reply: Reply | None = None


@dataclass
class Rate:
    """The primary rate limit."""

    limit: int = 5000
    remaining: int = 5000
    reset: float = 0.0


class GitHubDouble:
    """State and behaviour; :func:`running` puts it behind servers.

    Attributes:
        tokens: By their text.
        repos: By ``owner/name``.
        digests: Answers have ``digest``; old servers do not.
        url_life: Seconds for which a signed address is good.
        raw_cache: Seconds for which raw files are cached, by the double's own clock.
        skew: Seconds that its clock is ahead of the machine's.
        faults: See :class:`Fault`.
        secondary: Answers 403 or 429 that are given to the next API requests.
        requests: Method, path and query of every API request.
        log: Requests and answers in full, but for uploaded bytes.
        uploads: How often an asset's bytes were stored whole, by repository, tag and name.
        moment: Called before a request is looked at, during an upload, and before an answer is sent.
        sent: Body bytes of uploads that arrived.
        spool: A folder for large assets; without one they cannot be downloaded.
    """

    def __init__(self) -> None:
        self.api = self.web = self.upload_base = self.storage = ""
        self.tokens: dict[str, Token] = {"t0ken": Token()}
        self.repos: dict[str, Repo] = {}
        self.digests = True
        self.url_life = 300.0
        self.raw_cache = 0.0
        self.skew = 0.0
        self.rate = Rate()
        self.faults: list[Fault] = []
        self.secondary: list[Reply] = []
        self.requests: list[tuple[str, str, str]] = []
        self.log: list[tuple[Request, Reply]] = []
        self.uploads: Counter[tuple[str, str, str]] = Counter()
        self.downloads: Counter[str] = Counter()
        self.sent = 0
        self.spool: Path | None = None
        self.moment: Callable[[], object] = lambda: None
        self._ids = iter(range(1001, 10**9))
        self._lock = threading.RLock()
        self._raw: dict[str, tuple[float, Reply]] = {}

    # -- what tests set up and look at

    def add_repo(self, name: str = "owner/name", *, empty: bool = False, **settings: bool) -> Repo:
        repo = replace(Repo(name, Git(f"{self.api}/repos/{name}")), **settings)  # type: ignore[arg-type]  # flags only
        if not empty:
            tree = repo.git.add_tree({"README.md": repo.git.add_blob(b"hello\n")})
            head = repo.git.add_commit(Commit(tree, (), "first", "2026-01-01T00:00:00Z", "alice"))
            repo.git.refs["refs/heads/main"] = head
        self.repos[name] = repo
        return repo

    def published(self, name: str = "owner/name") -> dict[str, dict[str, str | None]]:
        """Digests of what everybody sees, by tag and asset."""
        with self._lock:
            return {
                release.tag: {asset.name: asset.sha256 for asset in release.assets.values()}
                for release in self.repos[name].releases.values()
                if not release.draft
            }

    def drafts(self, name: str = "owner/name") -> list[Release]:
        return [release for release in self.repos[name].releases.values() if release.draft]

    def asked(self, method: str, part: str) -> int:
        return sum(1 for found, path, _ in self.requests if found == method and part in path)

    @property
    def now(self) -> float:
        return time.time() + self.skew

    # -- the API

    def answer_api(self, request: Request) -> Reply | None:
        """Answer a request to the API or the upload host; none closes the connection without an answer."""
        path = re.sub(r"^/api/(v3|uploads)", "", request.path)
        with self._lock:
            self.requests.append((request.method, path, request.query))
        self.moment()
        fault = self._fault(request.method, path)
        try:
            with self._lock:
                limited = self._limited()
            reply = limited or self._dispatch(request, path, fault)
        except Refused as refused:
            reply = Reply(refused.status, _encoded(refused.body))
            request.drain()
        except ConnectionError:
            return None
        with self._lock:
            self.log.append((request, reply))
        self.moment()
        if fault is not None and fault.how == "lost":
            return None
        if fault is not None and fault.how == "502-done":
            reply = Reply(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"})
        return reply.with_headers(self._headers())

    def _dispatch(self, request: Request, path: str, fault: Fault | None) -> Reply:
        if fault is not None and fault.how == "502":
            request.drain()
            return Reply(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"})
        if fault is not None and fault.how == "answer":
            request.drain()
            assert fault.reply is not None
            return fault.reply
        match = re.match(r"^/repos/([^/]+/[^/]+)(/.*)$", path)
        if match is None:
            raise Refused(404, "Not Found")
        upload = re.match(r"^/releases/(\d+)/assets$", match[2]) if request.method == "POST" else None
        with self._lock:
            token, repo = self._admitted(request, match[1])
        if upload is not None:
            return self._upload(request, repo, int(upload[1]), fault)
        body = json.loads(request.body() or b"{}")
        with self._lock:
            for method, pattern, handle in self._routes:
                found = re.match(pattern, match[2]) if method == request.method else None
                if found is not None:
                    return handle(self, request, repo, token, body, *found.groups())
        raise Refused(404, "Not Found")

    def _admitted(self, request: Request, name: str) -> tuple[Token, Repo]:
        words = request.headers.get("authorization", "").split(" ")
        stranger = request.method == "GET" and words == [""]  # who may read what is public
        token = STRANGER if stranger else self.tokens.get(words[-1])
        if token is None:
            raise Refused(401, "Bad credentials")
        repo = self.repos.get(name)
        if repo is None or (repo.private and not token.sees_private):
            raise Refused(404, "Not Found")
        if repo.renamed:
            raise Refused(301 if request.method == "GET" else 307, "Moved Permanently")
        if request.method != "GET":
            if not token.write:
                if token.hides:
                    raise Refused(404, "Not Found")
                raise Refused(403, "Resource not accessible by personal access token")
            if repo.archived:
                raise Refused(403, "Repository was archived so is read-only.")
        return token, repo

    def _limited(self) -> Reply | None:
        if self.secondary:
            return self.secondary.pop(0)
        if self.now >= self.rate.reset:
            self.rate.remaining, self.rate.reset = self.rate.limit, self.now + 3600
        if self.rate.remaining <= 0:
            return Reply(403, _encoded({"message": "API rate limit exceeded for user ID 1."}))
        self.rate.remaining -= 1
        return None

    def _headers(self) -> dict[str, str]:
        return {
            "Date": formatdate(self.now, usegmt=True),
            "X-RateLimit-Limit": str(self.rate.limit),
            "X-RateLimit-Remaining": str(self.rate.remaining),
            "X-RateLimit-Reset": str(int(self.rate.reset)),
        }

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.method == method and fault.part in path and fault.times > 0:
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    # releases

    def _list_releases(self, request: Request, repo: Repo, token: Token, _body: Any) -> Reply:
        releases = sorted(repo.releases.values(), key=lambda release: -release.id)
        shown = [self._release(repo, release) for release in releases if token.write or not release.draft]
        return self._page(request, shown)

    def _post_release(self, _request: Request, repo: Repo, _token: Token, body: Any) -> Reply:
        if not isinstance(body.get("tag_name"), str):
            raise Refused(422, 'Invalid request.\n\n"tag_name" wasn\'t supplied.')
        if not repo.git.commits:
            raise Refused(422, "Repository is empty.")
        if len(body.get("body") or "") > BODY_LIMIT:
            raise Refused(422, "Validation Failed", _detail("Release", "custom", "body", "body is too long"))
        target = body.get("target_commitish", "main")
        if target not in repo.git.commits and f"refs/heads/{target}" not in repo.git.refs:
            raise Refused(422, "Validation Failed", _detail("Release", "invalid", "target_commitish"))
        release = Release(next(self._ids), body["tag_name"], body.get("name", ""), body.get("body") or "", True, target)
        if not body.get("draft", False):
            self._publish(repo, release)
        repo.releases[release.id] = release
        return Reply(201, _encoded(self._release(repo, release)))

    def _get_release(self, _request: Request, repo: Repo, token: Token, _body: Any, number: str) -> Reply:
        return Reply(200, _encoded(self._release(repo, self._find(repo, token, number))))

    def _get_by_tag(self, _request: Request, repo: Repo, _token: Token, _body: Any, tag: str) -> Reply:
        for release in repo.releases.values():
            if release.tag == tag and not release.draft:
                return Reply(200, _encoded(self._release(repo, release)))
        raise Refused(404, "Not Found")

    def _patch_release(self, _request: Request, repo: Repo, token: Token, body: Any, number: str) -> Reply:
        release = self._find(repo, token, number)
        if release.immutable:
            raise Refused(422, "Cannot update an immutable release.")
        if release.draft and body.get("draft") is False:
            if repo.protected:
                raise Refused(422, "Validation Failed", _detail("Release", "custom", "pre_receive", "Rule violations"))
            self._publish(repo, release)
        release.latest = body.get("make_latest", release.latest)
        release.name = body.get("name", release.name)
        return Reply(200, _encoded(self._release(repo, release)))

    def _delete_release(self, _request: Request, repo: Repo, token: Token, _body: Any, number: str) -> Reply:
        release = self._find(repo, token, number)
        if release.immutable:
            repo.spent.add(release.tag)
        del repo.releases[release.id]
        return Reply(204, b"")

    def _publish(self, repo: Repo, release: Release) -> None:
        if any(other.tag == release.tag and not other.draft for other in repo.releases.values()):
            raise Refused(422, "Validation Failed", _detail("Release", "already_exists", "tag_name"))
        if release.tag in repo.spent:
            message = "tag_name was used by an immutable release"
            raise Refused(422, "Validation Failed", _detail("Release", "custom", "tag_name", message))
        head = repo.git.refs.get(f"refs/heads/{release.target}", release.target)
        repo.git.refs.setdefault(f"refs/tags/{release.tag}", head)
        release.draft = False
        release.immutable = repo.immutable
        release.published = self._stamp()

    def _find(self, repo: Repo, token: Token, number: str) -> Release:
        release = repo.releases.get(int(number))
        if release is None or (release.draft and not token.write):
            raise Refused(404, "Not Found")
        return release

    # assets

    def _list_assets(self, request: Request, repo: Repo, token: Token, _body: Any, number: str) -> Reply:
        release = self._find(repo, token, number)
        return self._page(request, [self._asset(repo, release, asset) for asset in release.assets.values()])

    def _get_asset(self, request: Request, repo: Repo, token: Token, _body: Any, number: str) -> Reply:
        release, asset = self._find_asset(repo, token, number)
        if request.headers.get("accept") != "application/octet-stream":
            return Reply(200, _encoded(self._asset(repo, release, asset)))
        return Reply(302, b"", {"Location": self._signed(asset)})

    def _delete_asset(self, _request: Request, repo: Repo, token: Token, _body: Any, number: str) -> Reply:
        release, asset = self._find_asset(repo, token, number)
        if release.immutable:
            raise Refused(422, "Cannot delete asset from an immutable release")
        del release.assets[asset.name]
        return Reply(204, b"")

    def _find_asset(self, repo: Repo, token: Token, number: str) -> tuple[Release, Asset]:
        for release in repo.releases.values():
            for asset in release.assets.values():
                if asset.id == int(number) and (token.write or not release.draft):
                    return release, asset
        raise Refused(404, "Not Found")

    def _upload(self, request: Request, repo: Repo, number: int, fault: Fault | None) -> Reply:
        with self._lock:
            release, name, size = self._check_upload(request, repo, number)
            asset = Asset(next(self._ids), name, 0, "starter", None, None)
            if fault is None or fault.how not in {"502", "answer"}:
                release.assets[name] = asset
        if fault is not None and fault.how == "cut":
            self.sent += len(request.stream.read(min(size, fault.cut)))
            raise ConnectionError
        digest, data, received = hashlib.sha256(), self._keeping(size), 0
        part = max(1, min(2**20, size // 2))
        while received < size and (block := request.stream.read(min(part, size - received))):
            received += len(block)
            self.moment()
            digest.update(block)
            if data is not None:
                data.write(block)
        with self._lock:
            self.sent += received
            if received < size:
                if data is not None:
                    data.close()
                raise ConnectionError
            request.taken = True
            if fault is not None and fault.how == "starter":
                return Reply(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"})
            if fault is not None and fault.how == "altered":
                digest, data = hashlib.sha256(b"x" * size), io.BytesIO(b"x" * size)
            if fault is not None and fault.how == "renamed":
                del release.assets[name]
                asset.name = f"default.{name}"
                release.assets[asset.name] = asset
            asset.size, asset.state, asset.sha256 = size, "uploaded", digest.hexdigest()
            asset.data = _kept(data)
            self.uploads[repo.name, release.tag, asset.name] += 1
            return Reply(201, _encoded(self._asset(repo, release, asset)))

    def _keeping(self, size: int) -> io.BytesIO | IO[bytes] | None:
        if size <= KEPT:
            return io.BytesIO()
        return None if self.spool is None else tempfile.TemporaryFile(dir=self.spool)

    def _check_upload(self, request: Request, repo: Repo, number: int) -> tuple[Release, str, int]:
        release = repo.releases.get(number)
        if release is None:
            raise Refused(404, "Not Found")
        length = request.headers.get("content-length")
        names = parse_qs(request.query).get("name")
        if length is None or not names:
            raise Refused(422, "Validation Failed", _detail("ReleaseAsset", "missing_field", "name"))
        if release.immutable:
            raise Refused(422, "Cannot upload assets to an immutable release.")
        if int(length) > ASSET_LIMIT:
            message = f"size must be less than or equal to {ASSET_LIMIT}"
            raise Refused(422, "Validation Failed", _detail("ReleaseAsset", "custom", "size", message))
        name = re.sub(r"[^\w.@+-]", ".", names[0], flags=re.ASCII).strip(".") or "default"
        if name in release.assets:
            raise Refused(422, "Validation Failed", _detail("ReleaseAsset", "already_exists", "name"))
        if len(release.assets) >= ASSETS_LIMIT:
            message = f"file_count must be less than or equal to {ASSETS_LIMIT}"
            raise Refused(422, "Validation Failed", _detail("Release", "custom", "file_count", message))
        return release, name, int(length)

    # Git

    def _post_tree(self, _request: Request, repo: Repo, _token: Token, body: Any) -> Reply:
        return Reply(201, _encoded(repo.git.post_tree(body)))

    def _get_tree(self, request: Request, repo: Repo, _token: Token, _body: Any, sha: str) -> Reply:
        return Reply(200, _encoded(repo.git.get_tree(sha, recursive="recursive" in parse_qs(request.query))))

    def _get_blob(self, _request: Request, repo: Repo, _token: Token, _body: Any, sha: str) -> Reply:
        return Reply(200, _encoded(repo.git.get_blob(sha)))

    def _post_commit(self, _request: Request, repo: Repo, token: Token, body: Any) -> Reply:
        return Reply(201, _encoded(repo.git.post_commit(body, token.user, self.now)))

    def _get_commit(self, _request: Request, repo: Repo, _token: Token, _body: Any, sha: str) -> Reply:
        return Reply(200, _encoded(repo.git.get_commit(sha)))

    def _get_ref(self, _request: Request, repo: Repo, _token: Token, _body: Any, name: str) -> Reply:
        return Reply(200, _encoded(repo.git.get_ref(name)))

    def _post_ref(self, _request: Request, repo: Repo, _token: Token, body: Any) -> Reply:
        return Reply(201, _encoded(repo.git.post_ref(body)))

    def _patch_ref(self, _request: Request, repo: Repo, _token: Token, body: Any, name: str) -> Reply:
        return Reply(200, _encoded(repo.git.patch_ref(name, body)))

    def _matching_refs(self, _request: Request, repo: Repo, _token: Token, _body: Any, name: str) -> Reply:
        return Reply(200, _encoded(repo.git.matching_refs(name)))

    def _delete_ref(self, _request: Request, repo: Repo, _token: Token, _body: Any, name: str) -> Reply:
        if any(release.immutable and f"tags/{release.tag}" == name for release in repo.releases.values()):
            raise Refused(422, "Repository rule violations found\n\nCannot delete this tag\n\n")
        repo.git.delete_ref(name)
        return Reply(204, b"")

    _routes: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
        ("GET", r"/releases$", _list_releases),
        ("POST", r"/releases$", _post_release),
        ("GET", r"/releases/(\d+)$", _get_release),
        ("GET", r"/releases/tags/([^/]+)$", _get_by_tag),
        ("PATCH", r"/releases/(\d+)$", _patch_release),
        ("DELETE", r"/releases/(\d+)$", _delete_release),
        ("GET", r"/releases/(\d+)/assets$", _list_assets),
        ("GET", r"/releases/assets/(\d+)$", _get_asset),
        ("DELETE", r"/releases/assets/(\d+)$", _delete_asset),
        ("POST", r"/git/trees$", _post_tree),
        ("GET", r"/git/trees/([0-9a-f]{40})$", _get_tree),
        ("GET", r"/git/blobs/([0-9a-f]{40})$", _get_blob),
        ("POST", r"/git/commits$", _post_commit),
        ("GET", r"/git/commits/([0-9a-f]{40})$", _get_commit),
        ("GET", r"/git/ref/(.+)$", _get_ref),
        ("GET", r"/git/matching-refs/(.*)$", _matching_refs),
        ("POST", r"/git/refs$", _post_ref),
        ("PATCH", r"/git/refs/(.+)$", _patch_ref),
        ("DELETE", r"/git/refs/(.+)$", _delete_ref),
    )

    # -- the web site, which needs no token

    def answer_web(self, request: Request) -> Reply:
        """Answer a request for a release's asset or a branch's raw file."""
        download = re.match(r"^/([^/]+/[^/]+)/releases/download/([^/]+)/([^/]+)$", request.path)
        raw = re.match(r"^/([^/]+/[^/]+)/raw/([^/]+)/(.+)$", request.path)
        with self._lock:
            if download is not None:
                return self._download(*download.groups())
            if raw is not None:
                return self._raw_file(request.path, *raw.groups())
        return Reply(404, b"Not Found")

    def _download(self, name: str, tag: str, asset_name: str) -> Reply:
        repo = self.repos.get(name)
        for release in repo.releases.values() if repo is not None and not repo.private else ():
            asset = release.assets.get(asset_name)
            if not release.draft and release.tag == tag and asset is not None and asset.state == "uploaded":
                self.downloads[asset_name] += 1
                return Reply(302, b"", {"Location": self._signed(asset)})
        return Reply(404, b"Not Found")

    def _raw_file(self, path: str, name: str, branch: str, file: str) -> Reply:
        known = self._raw.get(path)
        if known is not None and known[0] > self.now:
            return known[1]
        repo = self.repos.get(name)
        data = repo.git.file(branch, file) if repo is not None and not repo.private else None
        reply = Reply(404, b"404: Not Found") if data is None else Reply(200, data, {"Content-Type": "text/plain"})
        self._raw[path] = (self.now + self.raw_cache, reply)
        return reply

    # -- where the bytes lie, behind signed addresses

    def answer_storage(self, request: Request) -> Reply:
        """Answer a request to a signed address."""
        number, expiry = request.path.rpartition("/")[2], parse_qs(request.query).get("se", ["0"])[0]
        if request.query != self._query(number, expiry):  # also when it was encoded anew
            return Reply(400, b"<Error>Signature not valid in the specified time frame or encoding</Error>")
        if float(expiry) < self.now:
            return Reply(403, b"<Error>AuthenticationFailed: Signature has expired</Error>")
        if "authorization" in request.headers:
            return Reply(400, b"<Error>InvalidAuthenticationInfo</Error>")
        with self._lock:
            found = [
                asset
                for repo in self.repos.values()
                for release in repo.releases.values()
                for asset in release.assets.values()
                if asset.id == int(number)
            ]
        data = found[0].data if found else None
        if data is None:
            return Reply(404, b"gone")
        return _ranged(data, request.headers.get("range"), etag=str(found[0].sha256)[:16])

    def _signed(self, asset: Asset) -> str:
        return f"{self.storage}/asset/{asset.id}?{self._query(str(asset.id), str(int(self.now + self.url_life)))}"

    def _query(self, number: str, expiry: str) -> str:
        signature = hmac.new(SECRET, f"{number}:{expiry}".encode(), hashlib.sha256).hexdigest()
        # a disposition whose plus and escapes survive only if nobody encodes the address anew
        return f"{urlencode({'se': expiry, 'sig': signature})}&rscd=attachment%3B+filename%3Dx%2Fy"

    # -- how things are shown

    def _release(self, repo: Repo, release: Release) -> dict[str, Any]:
        url = f"{self.api}/repos/{repo.name}/releases/{release.id}"
        page = f"{self.web}/{repo.name}/releases/tag/{release.tag}"
        upload = f"{self.upload_base}/repos/{repo.name}/releases/{release.id}/assets{{?name,label}}"
        return {
            "url": url, "html_url": page, "assets_url": f"{url}/assets", "upload_url": upload, "tarball_url": None,
            "zipball_url": None, "id": release.id, "node_id": "RE", "tag_name": release.tag,
            "target_commitish": release.target, "name": release.name, "body": release.body, "draft": release.draft,
            "prerelease": release.prerelease, "immutable": release.immutable, "created_at": self._stamp(),
            "published_at": release.published, "updated_at": self._stamp(), "author": self._user(),
            "assets": [self._asset(repo, release, asset) for asset in list(release.assets.values())[:PAGE]],
        }  # fmt: skip

    def _asset(self, repo: Repo, release: Release, asset: Asset) -> dict[str, Any]:
        digest = f"sha256:{asset.sha256}" if asset.sha256 and self.digests else None
        return {
            "url": f"{self.api}/repos/{repo.name}/releases/assets/{asset.id}", "id": asset.id, "node_id": "RA",
            "browser_download_url": f"{self.web}/{repo.name}/releases/download/{release.tag}/{asset.name}",
            "name": asset.name, "label": None, "state": asset.state, "content_type": "application/octet-stream",
            "size": asset.size, "digest": digest, "download_count": 0, "created_at": self._stamp(),
            "updated_at": self._stamp(), "uploader": self._user(),
        }  # fmt: skip

    def _user(self) -> dict[str, Any]:
        links = ("url", "html_url", "followers_url", "following_url", "gists_url", "starred_url", "subscriptions_url",
                 "organizations_url", "repos_url", "events_url", "received_events_url", "avatar_url")  # fmt: skip
        return {
            "login": "alice", "id": 1, "node_id": "U", "gravatar_id": "", "type": "User", "site_admin": False,
        } | dict.fromkeys(links, f"{self.web}/alice")  # fmt: skip

    def _stamp(self) -> str:
        return datetime.fromtimestamp(int(self.now), UTC).isoformat().replace("+00:00", "Z")

    def _page(self, request: Request, entries: list[dict[str, Any]]) -> Reply:
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        size, page = min(int(query.get("per_page", 30)), PAGE), int(query.get("page", 1))
        headers = {}
        if len(entries) > size * page:
            following = urlencode(query | {"page": page + 1})
            headers["Link"] = f'<{self.api}{request.path}?{following}>; rel="next"'
        return Reply(200, _encoded(entries[size * (page - 1) : size * page]), headers)


PAGE = 100


def _encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def _detail(resource: str, code: str, name: str, message: str = "") -> dict[str, str]:
    return {"resource": resource, "code": code, "field": name} | ({"message": message} if message else {})


def _kept(data: io.BytesIO | IO[bytes] | None) -> bytes | mmap.mmap | None:
    if data is None or isinstance(data, io.BytesIO):
        return None if data is None else data.getvalue()
    data.flush()
    with data:
        return mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)


def _ranged(data: bytes | mmap.mmap, header: str | None, *, etag: str) -> Reply:
    usual = {"Accept-Ranges": "bytes", "ETag": f'"{etag}"'}
    if header is None:
        return Reply(200, data, usual | {"Content-Type": "application/octet-stream"})
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if match is None:
        return Reply(501, b"<Error>NotImplemented: one range at a time</Error>")
    first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
    if first >= len(data):
        return Reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    headers = usual | {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Content-Type": "application/octet-stream"}
    return Reply(206, data[first : last + 1], headers)


@contextmanager
def running(double: GitHubDouble | None = None) -> Iterator[GitHubDouble]:
    """Serve a double on three loopback ports, as its three hosts, while the block runs."""
    found = double or GitHubDouble()

    def answer(request: Request) -> Reply | None:
        return found.answer_api(request) if request.path.startswith(_API) else found.answer_web(request)

    with served(answer) as main, served(found.answer_api) as uploads, served(found.answer_storage) as storage:
        found.web, found.api, found.storage = main, f"{main}/api/v3", storage
        found.upload_base = f"{uploads}/api/uploads"
        yield found


_API = ("/api/", "/repos/")
