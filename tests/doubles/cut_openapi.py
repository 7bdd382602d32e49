"""Cut GitHub's description of its API to the parts that we use.

Usage::

    npm pack @octokit/openapi@23.0.2 && tar -xzf octokit-openapi-23.0.2.tgz
    python tests/doubles/cut_openapi.py package/generated/api.github.com.deref.json > tests/doubles/github_openapi.json

The description is published by Octokit under the MIT licence; the licence text goes into the result. Three things are
changed, all for the tool that checks against it (Prism): examples and prose are left out; a path parameter may there
not have several segments, so ``{ref}`` is only that of a branch or tag; and the upload host is the same server as the
rest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = "/repos/{owner}/{repo}"
USED = {
    "/releases": ("get", "post"),
    "/releases/{release_id}": ("get", "patch", "delete"),
    "/releases/{release_id}/assets": ("get", "post"),
    "/releases/assets/{asset_id}": ("get", "delete"),
    "/git/trees": ("post",),
    "/git/trees/{tree_sha}": ("get",),
    "/git/blobs/{file_sha}": ("get",),
    "/git/commits": ("post",),
    "/git/commits/{commit_sha}": ("get",),
    "/git/ref/{ref}": ("get",),
    "/git/matching-refs/{ref}": ("get",),
    "/git/refs": ("post",),
    "/git/refs/{ref}": ("patch", "delete"),
}
PROSE = {"example", "examples", "externalDocs", "summary", "tags", "servers", "x-github", "x-multi-segment"}


def without_prose(value: Any, *, names: bool = False) -> Any:
    """A schema without what only people read; ``names`` says that the keys are names of properties."""
    if isinstance(value, list):
        return [without_prose(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: without_prose(entry, names=key == "properties" and not names)
        for key, entry in value.items()
        if names or (key not in PROSE and not (key == "description" and isinstance(entry, str)))
    }


def with_descriptions(operation: dict[str, Any]) -> dict[str, Any]:
    """Every answer must have a description."""
    for code, answer in operation["responses"].items():
        answer["description"] = code
    return operation


def cut(description: dict[str, Any], licence: str) -> dict[str, Any]:
    """The part that we use."""
    paths: dict[str, Any] = {}
    for path, methods in USED.items():
        found = description["paths"][REPOSITORY + path]
        operations = {method: with_descriptions(without_prose(found[method])) for method in methods}
        whole = "matching-refs" in path
        paths[REPOSITORY + (path if whole else path.replace("{ref}", "heads/{ref}"))] = operations
        if path == "/git/refs/{ref}":
            paths[REPOSITORY + "/git/refs/tags/{ref}"] = {"delete": operations["delete"]}
    return {
        "openapi": description["openapi"],
        "info": {
            "title": "GitHub's REST API, cut to releases and Git",
            "version": description["info"]["version"],
            "license": {"name": "MIT"},
            "x-licence-text": licence,
        },
        "paths": paths,
    }


def main(source: Path) -> None:
    """Print the part that we use."""
    licence = (source.parent.parent / "LICENSE").read_text(encoding="utf-8")
    result = cut(json.loads(source.read_text(encoding="utf-8")), licence)
    print(json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
