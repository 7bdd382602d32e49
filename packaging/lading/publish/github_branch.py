"""Signed metadata on a branch: one commit a publication, so that all of it becomes visible in one step.

The branch is moved forward only, from the commit that was read: of two publishers one wins, and the other has changed
nothing. Files are never deleted, so whoever has seen an older timestamp still finds what it refers to.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime

from lading.errors import Busy, DigestMismatch, Unavailable
from lading.manifest.github_layout import BRANCH
from lading.publish.github_api import Answer, GitHubApi
from lading.publish.github_errors import CONFLICT, UNPROCESSABLE, refusal_of

TIMESTAMP = "metadata/timestamp.json"
FILE, BLOB = "100644", "blob"
_REFUSED = frozenset({CONFLICT, UNPROCESSABLE})


class Pointed(Answer):
    """What a reference points to."""

    sha: str


class RefAnswer(Answer):
    """A reference."""

    object: Pointed


class TreeEntry(Answer):
    """A file or folder of a tree."""

    path: str
    type: str
    sha: str


class TreeAnswer(Answer):
    """A tree, with everything below it; ``truncated`` when GitHub did not list all of it."""

    sha: str
    truncated: bool = False
    tree: tuple[TreeEntry, ...] = ()


class BlobAnswer(Answer):
    """A file's bytes."""

    content: str
    encoding: str


class CommitPerson(Answer):
    """Who made a commit, and when by GitHub's clock."""

    name: str = ""
    date: datetime


class CommitAnswer(Answer):
    """A commit."""

    sha: str
    message: str = ""
    tree: Pointed
    committer: CommitPerson


class MetadataBranch:
    """The branch with metadata and targets.

    Args:
        api: Sends requests.
        branch: Its name.
    """

    def __init__(self, api: GitHubApi, branch: str = BRANCH) -> None:
        self._api = api
        self._branch = branch
        self._head: str | None = None
        self._tree: str | None = None
        self._files: dict[str, str] = {}
        self._blobs: dict[str, bytes] = {}
        self._staged: dict[str, bytes] = {}

    def load(self) -> None:
        """Look at what is there; what was staged is dropped."""
        self._staged, self._files, self._tree = {}, {}, None
        self._head = branch_head(self._api, self._branch)
        if self._head is not None:
            self._tree = read_commit(self._api, self._head).tree.sha
            self._files = self._list(self._tree)

    def read(self, path: str) -> bytes | None:
        """A file's bytes, staged ones included, or none."""
        if path in self._staged:
            return self._staged[path]
        sha = self._files.get(path)
        if sha is None:
            return None
        if sha not in self._blobs:
            self._blobs[sha] = self._read_blob(sha, path)
        return self._blobs[sha]

    def stage(self, path: str, data: bytes) -> None:
        """Have a file in the next commit.

        Raises:
            RuntimeError: It would replace a file that is never replaced.
        """
        if path != TIMESTAMP and self._files.get(path, git_blob_sha(data)) != git_blob_sha(data):
            message = f"{path} is there with other bytes, and only {TIMESTAMP} is ever replaced"
            raise RuntimeError(message)
        self._staged[path] = data

    def commit(self, message: str) -> bool:
        """Make everything that was staged visible, or nothing.

        Returns:
            Whether there was anything to do.

        Raises:
            Busy: Somebody else has moved the branch since it was read.
            DigestMismatch: GitHub stored other bytes; nothing is visible.
        """
        new = {path: data for path, data in self._staged.items() if self._files.get(path) != git_blob_sha(data)}
        self._staged = {}
        if not new:
            return False
        tree = self._make_tree(new)
        files = self._list(tree)
        wrong = [path for path, data in new.items() if files.get(path) != git_blob_sha(data)]
        if wrong or not self._files.keys() <= files.keys():
            raise DigestMismatch(
                f"{self._api.repository.page} has not stored {wrong[0] if wrong else 'all files'} as it was sent.",
                usually="A proxy altered the request, or GitHub had a bad moment; nothing is visible.",
                todo="Run the same command again.",
            )
        commit = make_commit(self._api, message, tree, self._head)
        if not move_branch(self._api, self._branch, commit, expected=self._head):
            raise Busy(
                f"Another publisher has changed the branch {self._branch} of {self._api.repository.page} meanwhile.",
                usually="Two jobs publish at the same time.",
                todo="Run the same command again: what is there is not sent twice.",
            )
        self._head, self._tree, self._files = commit, tree, files
        return True

    def _list(self, tree: str) -> dict[str, str]:
        doing = f"listing the branch {self._branch}"
        answer = self._api.call("GET", f"/git/trees/{tree}", doing=doing, params={"recursive": "1"})
        found = self._api.parsed(TreeAnswer, answer)
        if found.truncated:
            raise Unavailable(
                f"The branch {self._branch} has more files than GitHub lists at once ({len(found.tree)} of them).",
                usually="Tens of thousands of releases were published there.",
                todo="Begin a new repository for further releases.",
            )
        return {entry.path: entry.sha for entry in found.tree if entry.type == BLOB}

    def _read_blob(self, sha: str, path: str) -> bytes:
        found = self._api.get(BlobAnswer, f"/git/blobs/{sha}", doing=f"reading {path}")
        if found is None or found.encoding != "base64":
            raise Unavailable(f"{self._api.repository.page} does not give {path} ({sha}).")
        return base64.b64decode(found.content)

    def _make_tree(self, new: dict[str, bytes]) -> str:
        entries = [
            {"path": path, "mode": FILE, "type": BLOB, "content": data.decode("utf-8")} for path, data in new.items()
        ]
        wanted = {"tree": entries} | ({"base_tree": self._tree} if self._tree else {})
        answer = self._api.call("POST", "/git/trees", doing="storing signed metadata", json=wanted)
        return self._api.parsed(TreeAnswer, answer).sha


def git_blob_sha(data: bytes) -> str:
    """The name that Git gives to bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def branch_head(api: GitHubApi, branch: str) -> str | None:
    """The commit that a branch points to; none when there is no such branch."""
    found = api.get(RefAnswer, f"/git/ref/heads/{branch}", doing=f"looking at the branch {branch}")
    return None if found is None else found.object.sha


def read_commit(api: GitHubApi, sha: str) -> CommitAnswer:
    """Read a commit that a branch points to.

    Raises:
        Unavailable: It is not there.
    """
    found = api.get(CommitAnswer, f"/git/commits/{sha}", doing=f"reading the commit {sha}")
    if found is None:
        raise Unavailable(f"{api.repository.page} has lost the commit {sha}.", todo="Run the same command again.")
    return found


def make_commit(api: GitHubApi, message: str, tree: str, parent: str | None) -> str:
    """Make a commit that no branch has yet."""
    wanted = {"message": message, "tree": tree, "parents": [parent] if parent else []}
    answer = api.call("POST", "/git/commits", doing="making a commit", json=wanted)
    return api.parsed(CommitAnswer, answer).sha


def move_branch(api: GitHubApi, branch: str, commit: str, *, expected: str | None) -> bool:
    """Let a branch point to a commit, if it points to that commit's parent; or create it, if there is none.

    Args:
        api: Sends requests.
        branch: Its name.
        commit: A child of ``expected``.
        expected: What the branch points to now; none when it must not be there.

    Returns:
        Whether it points there now; not when somebody else was faster.
    """
    doing = f"moving the branch {branch}"

    def attempt() -> bool:
        if expected is None:
            wanted = {"ref": f"refs/heads/{branch}", "sha": commit}
            answer = api.call("POST", "/git/refs", doing=doing, json=wanted, again=False, also=_REFUSED)
        else:
            path, moved = f"/git/refs/heads/{branch}", {"sha": commit, "force": False}
            answer = api.call("PATCH", path, doing=doing, json=moved, again=False, also=_REFUSED)
        if answer.status_code not in _REFUSED:
            return True
        if branch_head(api, branch) == commit:
            return True
        said = refusal_of(answer.status_code, answer.json()).message.lower()
        if "already exists" in said or "fast forward" in said or "does not exist" in said:
            return False
        raise api.refused(answer, doing, writing=True)  # such as a rule for branches, or a repository without a commit

    def look() -> bool | None:
        return True if branch_head(api, branch) == commit else None

    return api.settled(attempt, look)
