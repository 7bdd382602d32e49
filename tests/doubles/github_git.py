"""A Git object store as GitHub's API shows it: blobs, trees, commits and references of one repository."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


class Refused(Exception):
    """An answer of the API that is no success."""

    def __init__(self, status: int, message: str, *errors: dict[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "message": message,
            "documentation_url": "https://docs.example/rest",
            "status": str(status),
        } | ({"errors": list(errors)} if errors else {})


@dataclass(frozen=True)
class Commit:
    tree: str
    parents: tuple[str, ...]
    message: str
    date: str
    author: str


def _sha(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


@dataclass
class Git:
    """The objects and references of one repository."""

    url: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    trees: dict[str, dict[str, str]] = field(default_factory=dict)  # every file below it by its whole path
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    moves: list[tuple[str, str | None]] = field(default_factory=list)

    def add_tree(self, files: dict[str, str]) -> str:
        text = "".join(f"{path} {sha}\n" for path, sha in sorted(files.items()))
        sha = _sha("tree", text.encode())
        self.trees[sha] = dict(files)
        return sha

    def add_blob(self, data: bytes) -> str:
        sha = _sha("blob", data)
        self.blobs[sha] = data
        return sha

    def add_commit(self, commit: Commit) -> str:
        sha = _sha("commit", repr(commit).encode())
        self.commits[sha] = commit
        return sha

    def file(self, branch: str, path: str) -> bytes | None:
        head = self.refs.get(f"refs/heads/{branch}")
        if head is None:
            return None
        sha = self.trees[self.commits[head].tree].get(path)
        return None if sha is None else self.blobs[sha]

    # -- the API

    def post_tree(self, body: dict[str, Any]) -> dict[str, Any]:
        self._not_empty()
        entries = body.get("tree")
        if not entries:
            raise Refused(422, "Invalid tree info")
        base = body.get("base_tree")
        if base is not None and base not in self.trees:
            raise Refused(422, "base_tree is not a valid tree oid")
        files = dict(self.trees[base]) if base else {}
        for entry in entries:
            files[entry["path"]] = entry["sha"] if "sha" in entry else self.add_blob(entry["content"].encode())
        return self._tree(self.add_tree(files), recursive=False)

    def get_tree(self, sha: str, *, recursive: bool) -> dict[str, Any]:
        self._not_empty()
        if sha not in self.trees:
            raise Refused(404, "Not Found")
        return self._tree(sha, recursive=recursive)

    def get_blob(self, sha: str) -> dict[str, Any]:
        if sha not in self.blobs:
            raise Refused(404, "Not Found")
        data = self.blobs[sha]
        content = base64.encodebytes(data).decode()
        url = f"{self.url}/git/blobs/{sha}"
        return {"sha": sha, "node_id": "B", "size": len(data), "url": url, "content": content, "encoding": "base64"}

    def post_commit(self, body: dict[str, Any], author: str, now: float) -> dict[str, Any]:
        self._not_empty()
        parents = tuple(body.get("parents", ()))
        if body["tree"] not in self.trees or any(parent not in self.commits for parent in parents):
            raise Refused(422, "Tree SHA does not exist")
        date = datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z")
        return self.get_commit(self.add_commit(Commit(body["tree"], parents, body["message"], date, author)))

    def get_commit(self, sha: str) -> dict[str, Any]:
        if sha not in self.commits:
            raise Refused(404, "Not Found")
        commit = self.commits[sha]
        person = {"date": commit.date, "email": f"{commit.author}@users.example", "name": commit.author}
        url = f"{self.url}/git/commits/{sha}"
        return {
            "sha": sha, "node_id": "C", "url": url, "html_url": url, "author": person, "committer": person,
            "message": commit.message, "tree": {"sha": commit.tree, "url": f"{self.url}/git/trees/{commit.tree}"},
            "parents": [{"sha": parent, "url": url, "html_url": url} for parent in commit.parents],
            "verification": {"verified": False, "reason": "unsigned", "signature": None, "payload": None,
                             "verified_at": None},
        }  # fmt: skip

    def get_ref(self, name: str) -> dict[str, Any]:
        self._not_empty()
        if f"refs/{name}" not in self.refs:
            raise Refused(404, "Not Found")
        return self._ref(f"refs/{name}")

    def matching_refs(self, name: str) -> list[dict[str, Any]]:
        self._not_empty()
        return [self._ref(ref) for ref in sorted(self.refs) if ref.startswith(f"refs/{name}")]

    def post_ref(self, body: dict[str, Any]) -> dict[str, Any]:
        self._not_empty()
        ref, sha = body["ref"], body["sha"]
        if not ref.startswith("refs/") or ref.count("/") < 2:
            raise Refused(422, "Reference name is not valid")
        if ref in self.refs:
            raise Refused(422, "Reference already exists")
        return self._move(ref, sha)

    def patch_ref(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        ref = f"refs/{name}"
        if ref not in self.refs:
            raise Refused(422, "Reference does not exist")
        if not body.get("force", False) and not self._leads_to(body["sha"], self.refs[ref]):
            raise Refused(422, "Update is not a fast forward")
        return self._move(ref, body["sha"])

    def delete_ref(self, name: str) -> None:
        if self.refs.pop(f"refs/{name}", None) is None:
            raise Refused(422, "Reference does not exist")
        self.moves.append((f"refs/{name}", None))

    def _move(self, ref: str, sha: str) -> dict[str, Any]:
        if sha not in self.commits:
            raise Refused(422, "Object does not exist")
        self.refs[ref] = sha
        self.moves.append((ref, sha))
        return self._ref(ref)

    def _leads_to(self, sha: str, ancestor: str) -> bool:
        waiting, seen = [sha], set[str]()
        while waiting:
            here = waiting.pop()
            if here == ancestor:
                return True
            if here in self.commits and here not in seen:
                seen.add(here)
                waiting += self.commits[here].parents
        return False

    def _not_empty(self) -> None:
        if not self.commits:
            raise Refused(409, "Git Repository is empty.")

    def _ref(self, ref: str) -> dict[str, Any]:
        sha = self.refs[ref]
        target = {"type": "commit", "sha": sha, "url": f"{self.url}/git/commits/{sha}"}
        return {"ref": ref, "node_id": "R", "url": f"{self.url}/git/{ref}", "object": target}

    def _tree(self, sha: str, *, recursive: bool) -> dict[str, Any]:
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in sorted(self.trees[sha].items()):
            top, slash, _ = path.partition("/")
            if recursive or not slash:
                entries[path] = {"path": path, "mode": "100644", "type": "blob", "sha": blob,
                                 "size": len(self.blobs[blob]), "url": f"{self.url}/git/blobs/{blob}"}  # fmt: skip
            else:
                folder = hashlib.sha1(f"{sha}/{top}".encode(), usedforsecurity=False).hexdigest()
                entries[top] = {"path": top, "mode": "040000", "type": "tree", "sha": folder,
                                "url": f"{self.url}/git/trees/{folder}"}  # fmt: skip
        url = f"{self.url}/git/trees/{sha}"
        return {"sha": sha, "url": url, "tree": list(entries.values()), "truncated": False}
