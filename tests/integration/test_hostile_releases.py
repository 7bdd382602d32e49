"""Releases made by somebody who has the publisher's keys: signed, listed, and never to be written to a disk.

Every case goes the whole way, from the signed channel to the data directory. Whatever is refused, nothing has been
written outside the unfinished install, the version in use runs, and the next sound release installs.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backports.zstd import compress, decompress
from tests.packed_release import APP, ENTRY, Files, Link, Shop, program, tree_files, write_packed

from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, DiskFull, FormatInvalid, FormatTooNew, LadingError
from lading.manifest.base import Platform
from lading.sign.clock import system_clock
from lading.sign.repository import sign_repository
from lading.store.home import Home
from lading.store.install import install
from lading.store.status import status

CORE: Files = {
    ENTRY: program("one"),
    "_internal/a.pyc": bytes(range(256)) * 80,
    "_internal/b.pyc": b"b" * 9_000,
    "_internal/lib.so": Link("a.pyc"),
}
LIBS: Files = {"_internal/nvidia/lib.so": b"n" * 20_000}

Json = dict[str, Any]
Act = Callable[[Json], object]
LINUX: Platform = "linux-x86_64"
WINDOWS: Platform = "windows-x86_64"


# --- making one -------------------------------------------------------------------------------------------------------


def digest_of(files: list[Json]) -> str:
    """The tree digest as the format says it, of entries that no record would hold."""
    lines = []
    for entry in sorted(files, key=lambda entry: str(entry.get("path")).encode(errors="replace")):
        path, mode = entry.get("path"), entry.get("mode", "0644")
        if entry.get("type") == "link":
            lines.append(f"l {path}\0{entry.get('target')}\n")
        else:
            lines.append(f"f {mode} {entry.get('size', 0)} {entry.get('sha256')} {path}\n")
    return hashlib.sha256("".join(lines).encode(errors="replace")).hexdigest()


@dataclass(kw_only=True)
class Forger:
    """Turns a packed release into a hostile one, everything that hangs together recomputed.

    Attributes:
        shop: Its keys and repository.
        platform: For which machine.
    """

    shop: Shop
    platform: Platform = LINUX

    def publish(
        self,
        index: Act | None = None,
        release: Act | None = None,
        channel: Act | None = None,
        raw: Callable[[bytes], bytes] | None = None,
        archive: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Publish version 0.2.0, changed.

        Args:
            index: Changes the core's index; digests, counts and sizes follow it.
            release: Changes the release manifest afterwards; nothing follows.
            channel: Changes the channel.
            raw: Replaces the index's decompressed bytes.
            archive: Replaces the archive's bytes.
        """
        folder = self.shop.folder / "hostile"
        file = write_packed(folder, "0.2.0", {**CORE, ENTRY: program("two")})
        document: Json = json.loads(file.read_bytes())
        core: Json = document["components"][0]
        data = json.loads(decompress((folder / core["index"]["name"]).read_bytes()))
        if index is not None:
            index(data)
            files = [entry for entry in data["files"] if isinstance(entry, dict)]
            sizes = [entry.get("size", 0) for entry in files]
            core["files"] = max(len(data["files"]), 1)
            core["unpacked"] = max(sum(size for size in sizes if isinstance(size, int)), 0)
            core["tree"] = document["tree"] = digest_of(files)
        text = json.dumps(data).encode() if raw is None else raw(json.dumps(data).encode())
        packed = compress(text, 3)
        core["index"] |= {"size": len(packed), "sha256": sha256_bytes(packed)}
        volume = core["volumes"][0]
        body = (folder / volume["name"]).read_bytes()
        body = body if archive is None else archive(body)
        if archive is not None:
            core |= {"size": len(body), "sha256": sha256_bytes(body)}
            volume |= {"size": len(body), "sha256": sha256_bytes(body)}
        document["platform"] = core["platform"] = self.platform
        if release is not None:
            release(document)
        assets = self.shop.store / "assets/core/0.2.0"
        assets.mkdir(parents=True)
        (assets / volume["name"]).write_bytes(body)
        (assets / core["index"]["name"]).write_bytes(packed)
        self._sign(document, channel)

    def _sign(self, document: Json, channel: Act | None) -> None:
        target = f"releases/{APP}/0.2.0/hostile.release.json"
        listed: Json = {
            "schema": "lading/channel/1", "app": APP, "channel": "stable",
            "releases": [{"version": "0.2.0", "platform": self.platform, "flavor": "cpu", "target": target}],
        }  # fmt: skip
        if channel is not None:
            channel(listed)
        targets = {target: json.dumps(document).encode(), f"channels/{APP}/stable.json": json.dumps(listed).encode()}
        sign_repository(self.shop.store, self.shop.keys, targets, system_clock())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop")
    made.release("0.1.0", CORE)
    install(str(made.store), made.root, tmp_path / "data", app=APP, platform=LINUX)
    channel = next((made.store / "targets/channels" / APP).iterdir())
    (made.folder / "channel.json").write_bytes(channel.read_bytes())
    return made


def outside(folder: Path) -> dict[str, object]:
    """Everything under a folder but what an unfinished or refused install may leave: its name, kind and content."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(("shop/", "data/trust/")) or "/partial/" in name or name.endswith(("lock", "lock.holder")):
            continue
        if not name.endswith("state.json"):
            found[name] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def in_use(data: Path) -> str:
    entry = data / "backends/cpu/current/tree" / ENTRY
    return subprocess.run([entry], check=True, capture_output=True, text=True).stdout.strip()


def refused(
    tmp_path: Path, shop: Shop, error: type[LadingError], says: str, *, platform: Platform = LINUX
) -> LadingError:
    """Install the hostile release, which must be refused, and check everything that must not have happened."""
    data = tmp_path / "data"
    before = outside(tmp_path)

    with pytest.raises(error, match=says) as caught:
        install(str(shop.store), shop.root, data, app=APP, platform=platform)

    assert (caught.value.kind, caught.value.exit_code) == (error.__name__, error.exit_code)
    assert outside(tmp_path) == before
    assert in_use(data) == "one"
    failure = next((variant.last_failure for variant in status(data).variants if variant.variant == "cpu"), None)
    if failure is not None:
        assert failure.kind == error.__name__
    sound = {f"channels/{APP}/stable.json": (shop.folder / "channel.json").read_bytes()}
    sign_repository(shop.store, shop.keys, sound, system_clock())
    shop.release("0.3.0", {**CORE, ENTRY: program("three")})
    result = install(str(shop.store), shop.root, data, app=APP, platform=LINUX)
    assert in_use(data) == "three"
    assert tree_files(Path(result.tree)) == {**CORE, ENTRY: program("three")}
    assert not list(Home(data, "cpu").partial.iterdir())
    return caught.value


# --- what is in the index ---------------------------------------------------------------------------------------------


def put(**fields: Any) -> Act:
    """Add an entry that is as sound as its fields allow: it has the bytes of an honest file."""

    def act(index: Json) -> None:
        honest = next(entry for entry in index["files"] if entry["path"] == "_internal/b.pyc")
        entry = {**honest, **fields}
        index["files"].append({key: value for key, value in entry.items() if value is not ...})

    return act


def link(path: str, target: str) -> Act:
    return put(path=path, type="link", target=target, size=0, sha256=...)


def both(*acts: Act) -> Act:
    def act(index: Json) -> None:
        for one in acts:
            one(index)

    return act


def change(path: str, **fields: Any) -> Act:
    def act(index: Json) -> None:
        next(entry for entry in index["files"] if entry["path"] == path).update(fields)

    return act


def frames(**fields: Any) -> Act:
    def act(index: Json) -> None:
        for frame in index["frames"]:
            frame.update(fields)

    return act


def drop(path: str) -> Act:
    def act(index: Json) -> None:
        index["files"] = [entry for entry in index["files"] if entry["path"] != path]

    return act


def a_terabyte(index: Json) -> None:
    """A small archive that says to be enormous: thirty-two thousand frames of one compressed byte."""
    index["frames"] = [{"sha256": "0" * 64, "raw": 32 * 2**20, "size": 1}] * 32_768
    index["files"] = [
        {"path": ENTRY, "mode": "0755", "size": 2**40, "sha256": "0" * 64, "frame": 0, "offset": 0, "type": "file"}
    ]


PATHS: dict[str, tuple[Act, str]] = {
    "a path that goes up": (put(path="../evil"), "path"),
    "a path that goes up in its middle": (put(path="a/../../evil"), "path"),
    "a path that goes up and comes back": (put(path="a/../b"), "path"),
    "an absolute path": (put(path="/evil"), "path"),
    "a path with a drive": (put(path="C:/evil"), "path"),
    "a path relative to a drive": (put(path="C:evil"), "path"),
    "a path on another machine": (put(path="//server/share/evil"), "path"),
    "a path on another machine, as Windows writes it": (put(path="\\\\server\\share\\evil"), "path"),
    "a path with backslashes": (put(path="a\\..\\..\\evil"), "path"),
    "a path with a zero byte": (put(path="evil\0.txt"), "control character"),
    "a path with a line break": (put(path="evil\nf 0644 1 00 other"), "control character"),
    "a path with a terminal sequence": (put(path="evil\x1b[2J"), "control character"),
    "a path with an empty part": (put(path="a//evil"), "path"),
    "a path with a dot": (put(path="a/./evil"), "path"),
    "a path with a slash at its end": (put(path="evil/"), "path"),
    "an empty path": (put(path=""), "path"),
    "the tree itself": (put(path="."), "path"),
    "a path that is no text": (put(path="evil\ud800"), "not a valid Index record"),
    "a path that is no string": (put(path=7), "not a valid Index record"),
    "a name of 300 bytes": (put(path="x" * 300), "a name in it 300"),
    "a path of 4 kB": (put(path="/".join(["abc"] * 1000)), "its path has 3999 bytes"),
    "the same path twice": (put(path="_internal/b.pyc"), "occurs twice"),
    "two paths that are one after normalisation": (
        both(put(path="caf\u00e9"), put(path="cafe\u0301")), "occurs twice",
    ),
    "a file under a file": (put(path="_internal/b.pyc/evil"), "not a folder"),
    "a file under a link": (put(path="_internal/lib.so/evil"), "not a folder"),
    "a file in the place of a folder": (put(path="_internal"), "not a folder"),
}  # fmt: skip

LINKS: dict[str, tuple[Act, str]] = {
    "an absolute link": (link("evil", "/etc/passwd"), "outside the tree"),
    "a link that goes up": (link("evil", "../../outside"), "outside the tree"),
    "a link that goes up too far": (link("a/evil", "../../outside"), "outside the tree"),
    "a link that goes up in its middle": (link("a/b/evil", "x/../../../outside"), "outside the tree"),
    "a link to the tree itself": (link("a/evil", ".."), "outside the tree"),
    "a chain of links that leads out": (
        both(link("a/b", "../c"), link("a/evil", "b/../../outside")), "outside the tree",
    ),
    "a file through a chain of links": (
        both(link("x", "y"), link("y", "_internal"), put(path="x/evil")), "not a folder",
    ),
    "a link with a drive": (link("evil", "C:/Windows"), "outside the tree"),
    "a link with backslashes": (link("evil", "..\\..\\outside"), "outside the tree"),
    "a link to nothing at all": (link("evil", ""), "outside the tree"),
    "a link with bytes": (put(path="evil", type="link", target="a"), "a link has target"),
    "a link without a target": (put(path="evil", type="link", size=0, sha256=...), "a link has target"),
}  # fmt: skip

KINDS: dict[str, tuple[Act, str]] = {
    "a device": (put(path="evil", type="device"), "not a valid Index record"),
    "a pipe": (put(path="evil", type="fifo"), "not a valid Index record"),
    "a hard link": (put(path="evil", type="hardlink", target="_internal/b.pyc"), "not a valid Index record"),
    "setuid": (put(path="evil", mode="4755"), "its mode is 4755|0755 and 0644|mode"),
    "setgid": (put(path="evil", mode="2755"), "mode"),
    "sticky": (put(path="evil", mode="1755"), "mode"),
    "writable by all": (put(path="evil", mode="0666"), "mode"),
    "no permission at all": (put(path="evil", mode="0000"), "mode"),
    "a mode that is no number": (put(path="evil", mode="rwx"), "not a valid Index record"),
    "an unknown field": (put(path="evil", owner="root"), "not a valid Index record"),
    "an entry that is no object": (lambda index: index["files"].append("evil"), "not a valid Index record"),
}

SIZES: dict[str, tuple[Act, str]] = {
    "a negative size": (put(path="evil", size=-1), "not a valid Index record"),
    "a negative frame": (put(path="evil", frame=-1), "not a valid Index record"),
    "a negative offset": (put(path="evil", offset=-512), "not a valid Index record"),
    "half a byte": (put(path="evil", size=0.5), "not a valid Index record"),
    "a size beyond all frames": (put(path="evil", size=10**9), "frames end"),
    "a size beyond every number": (put(path="evil", size=2**70), "frames end"),
    "a frame that is not there": (put(path="evil", frame=10**6), "frames end"),
    "an offset behind its frame": (put(path="evil", offset=10**7), "frames end"),
    "an empty file with a digest": (put(path="evil", size=0), "0 bytes and the digest"),
    "a frame without bytes": (frames(raw=0), "not a valid Index record"),
    "a frame above the limit": (frames(raw=2**40), "not a valid Index record"),
    "a frame that grows by compression": (frames(size=10**9), "its frames have"),
    "a frame without a size": (frames(size=0), "not a valid Index record"),
    "frames that are not the archive": (lambda index: index["frames"].pop(), "its frames have"),
    "more frames than the archive": (lambda index: index["frames"].append(index["frames"][0]), "its frames have"),
}

ENTRIES: dict[str, tuple[Act, str]] = {
    "no entry": (drop(ENTRY), "no file of the tree"),
    "an entry that cannot be run": (change(ENTRY, mode="0644"), "its mode is 0644"),
    "an entry that is a link": (
        both(drop(ENTRY), link(ENTRY, "_internal/b.pyc")), "no file of the tree",
    ),
    "no file at all": (lambda index: index["files"].clear(), "lists 0 files"),
}  # fmt: skip

INDEXES = {**PATHS, **LINKS, **KINDS, **SIZES, **ENTRIES}


@pytest.mark.proves("S1-17")
@pytest.mark.parametrize(("act", "says"), INDEXES.values(), ids=INDEXES)
def test_a_hostile_index_is_refused_before_anything_is_written(tmp_path: Path, shop: Shop, act: Act, says: str) -> None:
    Forger(shop=shop).publish(act)
    refused(tmp_path, shop, FormatInvalid, says)


ON_WINDOWS: dict[str, Act] = {
    "a name that differs by case": put(path="_INTERNAL/B.PYC"),
    "a file under a link by case": put(path="_Internal/LIB.so/evil"),
    "a device's name": put(path="_internal/nul"),
    "a device's name with an ending": put(path="_internal/COM1.txt"),
    "a device's name with a superscript digit": put(path="_internal/lpt\u00b9"),
    "the console": put(path="_internal/CONIN$"),
    "a dot at the end": put(path="_internal/evil."),
    "a space at the end": put(path="_internal/evil "),
    "a folder with a dot at its end": put(path="_internal./evil"),
    "another stream of a file": put(path="_internal/b.pyc:evil"),
    "a question mark": put(path="_internal/evil?"),
    "a link to a device": link("_internal/evil", "nul"),
}


@pytest.mark.proves("S1-17")
@pytest.mark.parametrize("act", ON_WINDOWS.values(), ids=ON_WINDOWS)
def test_what_windows_would_take_for_something_else_is_refused_there(tmp_path: Path, shop: Shop, act: Act) -> None:
    Forger(shop=shop, platform=WINDOWS).publish(act)
    refused(tmp_path, shop, FormatInvalid, "occurs twice|not a folder|Windows cannot have", platform=WINDOWS)


# --- what is around the index -----------------------------------------------------------------------------------------


def core_of(release: Json) -> Json:
    found: Json = release["components"][0]
    return found


RELEASES: dict[str, tuple[type[LadingError], Act, str]] = {
    "a release of a later format": (
        FormatTooNew, lambda release: release.update(schema="lading/release/2"), "lading/release/2",
    ),
    "an unknown field": (FormatInvalid, lambda release: release.update(hooks=["rm"]), "hooks"),
    "an entry outside the tree": (FormatInvalid, lambda release: release.update(entry="../evil"), "entry"),
    "another app": (FormatInvalid, lambda release: release.update(app="other-app"), "is for|contradicts itself"),
    "another version": (FormatInvalid, lambda release: release.update(version="9.9.9"), "contradicts itself"),
    "another tree": (FormatInvalid, lambda release: release.update(tree="1" * 64), "tree digest"),
    "another core tree": (
        FormatInvalid, lambda release: core_of(release).update(tree="1" * 64), "unlike the release",
    ),
    "another number of files": (FormatInvalid, lambda release: core_of(release).update(files=99), "unlike the release"),
    "another unpacked size": (FormatInvalid, lambda release: core_of(release).update(unpacked=9), "unlike the release"),
    "a negative size": (FormatInvalid, lambda release: core_of(release).update(size=-1), "size"),
    "volumes that do not add up": (FormatInvalid, lambda release: core_of(release).update(size=7), "the volumes have"),
    "no volume": (FormatInvalid, lambda release: core_of(release).update(volumes=[]), "volumes"),
    "an asset outside its folder": (
        FormatInvalid, lambda release: core_of(release)["index"].update(name="../../x"), "name",
    ),
    "a digest that is none": (FormatInvalid, lambda release: core_of(release)["index"].update(sha256="no"), "sha256"),
    "an index that is another one": (
        DigestMismatch, lambda release: core_of(release)["index"].update(sha256="1" * 64), "the release says",
    ),
    "a version that leads out": (FormatInvalid, lambda release: core_of(release).update(version="../9"), "version"),
    "no component": (FormatInvalid, lambda release: release.update(components=[]), "components"),
    "two cores": (FormatInvalid, lambda release: release["components"].append(core_of(release)), "components"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "act", "says"), RELEASES.values(), ids=RELEASES)
def test_a_hostile_release_manifest_is_refused(
    tmp_path: Path, shop: Shop, error: type[LadingError], act: Act, says: str
) -> None:
    Forger(shop=shop).publish(release=act)
    refused(tmp_path, shop, error, says)


CHANNELS: dict[str, tuple[type[LadingError], Act, str]] = {
    "a channel of a later format": (
        FormatTooNew, lambda channel: channel.update(schema="lading/channel/2"), "lading/channel/2",
    ),
    "a channel of another app": (FormatInvalid, lambda channel: channel.update(app="other"), "contradicts itself"),
    "a channel of another name": (FormatInvalid, lambda channel: channel.update(channel="beta"), "contradicts itself"),
    "a target outside": (FormatInvalid, lambda channel: channel["releases"][0].update(target="../../x"), "target"),
    "an unknown field": (FormatInvalid, lambda channel: channel.update(next="x"), "next"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "act", "says"), CHANNELS.values(), ids=CHANNELS)
def test_a_hostile_channel_is_refused(
    tmp_path: Path, shop: Shop, error: type[LadingError], act: Act, says: str
) -> None:
    Forger(shop=shop).publish(channel=act)
    failed = refused(tmp_path, shop, error, says)
    if error is FormatTooNew:
        assert "Update Lading" in failed.todo


RAW: dict[str, tuple[type[LadingError], Callable[[bytes], bytes], str]] = {
    "an index of a later format": (
        FormatTooNew, lambda raw: raw.replace(b"lading/index/1", b"lading/index/2"), r"lading/index/2.*lading/index/1",
    ),
    "an index that expands without end": (FormatInvalid, lambda _: b" " * (257 * 2**20), "expands to more than"),
    "an index that is a list": (FormatInvalid, lambda raw: b"[" + raw + b"]", "not a valid Index record"),
    "an index that is cut off": (FormatInvalid, lambda raw: raw[:-9], "not a valid Index record"),
    "an index that is nested without end": (FormatInvalid, lambda _: b"[" * 10**6, "not a valid Index record"),
    "an index that is not UTF-8": (FormatInvalid, lambda raw: raw.replace(b"b.pyc", b"\xff\xfe.py"), "not a valid"),
    "an index that is empty": (FormatInvalid, lambda _: b"", "not a valid Index record"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "raw", "says"), RAW.values(), ids=RAW)
def test_a_hostile_index_file_is_refused(
    tmp_path: Path, shop: Shop, error: type[LadingError], raw: Callable[[bytes], bytes], says: str
) -> None:
    Forger(shop=shop).publish(raw=raw)
    refused(tmp_path, shop, error, says)


# --- what is in the frames --------------------------------------------------------------------------------------------


def test_a_frame_that_expands_beyond_what_it_says_is_cut_off(tmp_path: Path, shop: Shop) -> None:
    """A gigabyte of zeros in the place of the first frame, which says to have eight kilobytes."""
    bomb = compress(bytes(2**30), 1)

    def larger(index: Json) -> None:
        for frame in index["frames"]:
            frame["raw"] = max(frame["raw"], 1)
        index["frames"][0]["size"] = len(bomb)
        index["frames"][0]["raw"] = 32 * 2**20

    def archive(body: bytes) -> bytes:
        index = json.loads(decompress(next((shop.folder / "hostile").glob("*.index.zst")).read_bytes()))
        return bomb + body[index["frames"][0]["size"] :]

    Forger(shop=shop).publish(larger, archive=archive)
    refused(tmp_path, shop, DigestMismatch, "frame|expands|SHA-256")


def test_bytes_that_are_not_the_frames_are_refused(tmp_path: Path, shop: Shop) -> None:
    Forger(shop=shop).publish(archive=lambda body: bytes(len(body)))
    refused(tmp_path, shop, DigestMismatch, r"Frame 0 of .* is wrong: it cannot be decompressed")


def test_a_terabyte_from_a_few_bytes_stops_at_the_disk_before_the_first_one(tmp_path: Path, shop: Shop) -> None:
    Forger(shop=shop).publish(a_terabyte, archive=lambda _: bytes(32_768))
    refused(tmp_path, shop, DiskFull, r"1,099,51\d\.\d MB are needed")


@pytest.mark.proves("S1-17")
def test_what_the_tar_headers_say_is_never_read(tmp_path: Path, shop: Shop) -> None:
    """The archive has a device, a pipe, a hard link, and a file that goes up; the index has honest files."""

    def headers(name: str, kind: bytes, target: str = "") -> bytes:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, target, 0o4777
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
            archive.addfile(info)
            return stream.getvalue()[: archive.offset]

    evil = b"".join(
        (
            headers("evil-device", tarfile.CHRTYPE), headers("evil-pipe", tarfile.FIFOTYPE),
            headers("evil-link", tarfile.LNKTYPE, "/etc/passwd"), headers("../../evil", tarfile.REGTYPE),
        )
    )  # fmt: skip
    packed = compress(evil, 3)

    def one_more(index: Json) -> None:
        index["frames"].append({"sha256": sha256_bytes(evil), "raw": len(evil), "size": len(packed)})

    Forger(shop=shop).publish(one_more, archive=lambda body: body + packed)
    data = tmp_path / "data"
    result = install(str(shop.store), shop.root, data, app=APP, platform=LINUX)
    assert tree_files(Path(result.tree)) == {**CORE, ENTRY: program("two")}
    assert in_use(data) == "two"
    assert not [path for path in tmp_path.rglob("*evil*") if "shop" not in path.parts]


def test_files_that_share_their_bytes_are_no_harm(tmp_path: Path, shop: Shop) -> None:
    Forger(shop=shop).publish(put(path="_internal/again.pyc"))
    result = install(str(shop.store), shop.root, tmp_path / "data", app=APP, platform=LINUX)
    assert tree_files(Path(result.tree))["_internal/again.pyc"] == CORE["_internal/b.pyc"]


def test_core_and_libs_that_hold_the_same_path_are_refused(tmp_path: Path) -> None:
    made = Shop(tmp_path / "shop")
    made.release("0.1.0", CORE, {**LIBS, "_internal/b.pyc": b"other"})
    with pytest.raises(FormatInvalid, match="occurs twice"):
        install(str(made.store), made.root, tmp_path / "data", app=APP, platform=LINUX)
    assert not (tmp_path / "data/backends/cuda/current").exists()
    assert not list((tmp_path / "data").rglob("b.pyc"))


def test_there_are_more_than_twenty_kinds() -> None:
    assert len(INDEXES) + len(ON_WINDOWS) + len(RELEASES) + len(CHANNELS) + len(RAW) > 100
