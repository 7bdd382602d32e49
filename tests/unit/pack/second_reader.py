"""A reader of packed releases, written from docs/reference/format.md alone: it shares no code with Lading."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from backports import zstd

KEYS = {
    "component": {
        *("schema", "app", "component", "version", "flavor", "platform", "tree", "files", "unpacked"),
        *("size", "sha256", "index", "volumes", "profile", "torch"),
    },
    "index": {"schema", "files", "frames"},
    "patch": {
        *("schema", "app", "component", "from_tree", "to_tree", "from_index", "to_index", "to_index_size"),
        *("index", "files"),
    },
}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check(right: object, what: str) -> None:
    if not right:
        raise ValueError(what)


def record(data: bytes, kind: str) -> dict[str, Any]:
    """A record of the one version that this reader knows."""
    found: dict[str, Any] = json.loads(data)
    check(found["schema"] == f"lading/{kind}/1", "unknown version")
    check(set(found) <= KEYS[kind], "unknown key")
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    check(text.encode() == data, "not canonical")
    return found


def tree_digest(entries: list[dict[str, Any]]) -> str:
    lines = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry["path"].encode()):
        if entry["type"] == "link":
            lines.update(f"l {entry['path']}\0{entry['target']}\n".encode())
        else:
            lines.update(f"f {entry['mode']} {entry['size']} {entry['sha256']} {entry['path']}\n".encode())
    return lines.hexdigest()


class Component:
    """One packed component."""

    def __init__(self, path: Path) -> None:
        self.record = record(path.read_bytes(), "component")
        packed = (path.parent / self.record["index"]["name"]).read_bytes()
        check(digest(packed) == self.record["index"]["sha256"], "index")
        self.index_bytes = zstd.decompress(packed)
        self.index = record(self.index_bytes, "index")
        check(tree_digest(self.index["files"]) == self.record["tree"], "tree")
        check(len(self.index["files"]) == self.record["files"], "files")
        volumes = [(path.parent / volume["name"]).read_bytes() for volume in self.record["volumes"]]
        for volume, data in zip(self.record["volumes"], volumes, strict=True):
            check((len(data), digest(data)) == (volume["size"], volume["sha256"]), volume["name"])
        self.archive = b"".join(volumes)
        check((len(self.archive), digest(self.archive)) == (self.record["size"], self.record["sha256"]), "archive")

    def frame(self, number: int) -> bytes:
        frames = self.index["frames"]
        start = sum(frame["size"] for frame in frames[:number])
        stored = self.archive[start : start + frames[number]["size"]]
        raw = zstd.ZstdDecompressor().decompress(stored, max_length=frames[number]["raw"] + 1)
        check((len(raw), digest(raw)) == (frames[number]["raw"], frames[number]["sha256"]), f"frame {number}")
        return raw

    def read(self, entry: dict[str, Any]) -> bytes:
        data, number, offset = b"", entry["frame"], entry["offset"]
        while len(data) < entry["size"]:
            data += self.frame(number)[offset : offset + entry["size"] - len(data)]
            number, offset = number + 1, 0
        check(digest(data) == entry["sha256"], entry["path"])
        return data

    def files(self) -> dict[str, bytes]:
        return {entry["path"]: self.read(entry) for entry in self.index["files"] if entry["type"] == "file"}


def unpatch(method: str, blob: bytes, old: bytes, size: int, sha256: str) -> bytes:
    if method == "hdiff":
        import hdiffpatch  # noqa: PLC0415 (the one method that needs a library of its own)

        new = bytes(hdiffpatch.apply(old, blob))
    else:
        prefix = zstd.ZstdDict(old, is_raw=True).as_prefix if method == "zstd-from" else None
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 31}
        new = zstd.ZstdDecompressor(zstd_dict=prefix, options=options).decompress(blob, max_length=size + 1)
    check((len(new), digest(new)) == (size, sha256), "what the blob gives")
    return new


def apply_patch(patch: bytes, older: Component) -> tuple[bytes, dict[str, bytes]]:
    """The newer index, and the bytes of all files of the newer tree."""
    check(patch[:8] == b"LADPAT1\n", "magic")
    at = 12 + struct.unpack("<I", patch[8:12])[0]
    header = record(zstd.decompress(patch[12:at]), "patch")
    check(header["from_tree"] == older.record["tree"], "another older tree")
    check(header["from_index"] == digest(older.index_bytes), "another older index")
    blobs = []
    for blob in (header["index"], *header["files"]):
        blobs.append((blob, patch[at : at + blob["size"]]))
        at += blob["size"]
    check(at == len(patch), "bytes too few or too many")
    (first, data), *rest = blobs
    index_bytes = unpatch(first["method"], data, older.index_bytes, header["to_index_size"], header["to_index"])
    index = record(index_bytes, "index")
    entries = {entry["path"]: entry for entry in index["files"] if entry["type"] == "file"}
    had = older.files()
    known = {digest(data): data for data in had.values()}
    for blob, data in rest:
        entry = entries[blob["path"]]
        old = had[blob["old"]] if "old" in blob else b""
        known[entry["sha256"]] = unpatch(blob["method"], data, old, entry["size"], entry["sha256"])
    check(tree_digest(index["files"]) == header["to_tree"], "tree after the patch")
    return index_bytes, {path: known[entry["sha256"]] for path, entry in entries.items()}
