"""The attacks that an update system must withstand, each on a real repository, each with its own error.

After every one of them the client keeps what it had seen before, and the next sound refresh works.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tests.tuf_workshop import FILES, Workshop, new_keys, now
from tuf.api.metadata import Metadata, MetaFile
from typing_extensions import override

from lading.errors import (
    DigestMismatch,
    FormatInvalid,
    FormatTooNew,
    LadingError,
    LengthExceeded,
    MetadataExpired,
    MetadataMixed,
    RollbackDetected,
    RootInvalid,
    SignatureInvalid,
    SourceUnreachable,
    Untrusted,
)
from lading.fetch.address import open_source
from lading.fetch.folder import FolderSource
from lading.fetch.source import ATTEMPTS, Source, Stream, Traffic
from lading.fetch.trust import Trust
from lading.sign.keys import ROLES, Role


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A repository at its third state, which the client has seen."""
    made = Workshop(tmp_path_factory.mktemp("pattern"))
    for number in range(3):
        made.publish({**FILES, "new.txt": str(number).encode()})
    made.client()
    made.keep_copy()
    return made


@pytest.fixture
def shop(pattern: Workshop, tmp_path: Path) -> Workshop:
    shutil.copytree(pattern.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Workshop(tmp_path, dict(pattern.keys))


def stranger() -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519()]


def expire(signed: Any) -> None:
    signed.expires = now() - timedelta(hours=1)


def set_version(number: int) -> Callable[[Any], None]:
    return lambda signed: setattr(signed, "version", number)


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change metadata behind its signatures' back."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def do(*acts: Callable[[], object]) -> None:
    for act in acts:
        act()


def flip(path: Path) -> None:
    """Change a byte and nothing of the length."""
    path.write_bytes(path.read_bytes().replace(b'"targets.json"', b'"targetS.json"'))


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is done, and what it must get.

    Attributes:
        act: Changes the repository.
        error: The class of the error.
        says: What its message matches.
        seen: Metadata that was properly signed and may be kept, although what follows was not.
    """

    act: Callable[[Workshop], object]
    error: type[LadingError]
    says: str
    seen: tuple[str, ...] = ()


def older_under_the_next_name(shop: Workshop, role: Role) -> None:
    """The next state refers to a file, and an older one is served in its place."""
    shop.publish({"new.txt": b"next"})
    shop.path(role).write_bytes(shop.path(role, 1).read_bytes())


def duplicate_signatures(document: dict[str, Any]) -> None:
    document["signatures"] *= 2


def later_specification(document: dict[str, Any]) -> None:
    document["signed"]["spec_version"] = "2.0.0"


def no_hashes(shop: Workshop) -> None:
    """A timestamp without digests, and a snapshot of another version under the name that it gives."""
    number = shop.version("snapshot") + 1
    shop.forge("snapshot", set_version(7), version=number)
    shop.forge("timestamp", lambda signed: setattr(signed, "snapshot_meta", MetaFile(number)))


def targets_without_hashes(shop: Workshop) -> None:
    number = shop.version("targets") + 1
    shop.forge("targets", set_version(9), version=number, carry=("snapshot", "timestamp"), hashes=False)


def other_repository(shop: Workshop) -> None:
    other = Workshop(shop.folder / "other")
    other.publish()
    for path in (shop.store / "metadata").iterdir():
        path.unlink()
    for path in (other.store / "metadata").iterdir():
        (shop.store / "metadata" / path.name).write_bytes(path.read_bytes())


ATTACKS = {
    # arbitrary installation
    "timestamp by a stranger": Attack(
        act=lambda shop: shop.forge("timestamp", by=stranger()), error=SignatureInvalid, says=r"0/1 keys.*Signed by"
    ),
    "timestamp by nobody": Attack(
        act=lambda shop: shop.forge("timestamp", by=[]), error=SignatureInvalid, says="Signed by nobody"
    ),
    "timestamp by another role's key": Attack(
        act=lambda shop: shop.forge("timestamp", by=shop.keys["snapshot"]), error=SignatureInvalid, says="0/1 keys"
    ),
    "timestamp altered behind its signature": Attack(
        act=lambda shop: edited(shop.path("timestamp"), lambda document: document["signed"].update(version=9)),
        error=SignatureInvalid,
        says="0/1 keys",
    ),
    "snapshot by a stranger": Attack(
        act=lambda shop: shop.forge("snapshot", by=stranger(), carry=["timestamp"]),
        error=SignatureInvalid,
        says=r"4\.snapshot\.json.*0/1 keys",
        seen=("timestamp.json",),
    ),
    "targets by a stranger": Attack(
        act=lambda shop: shop.forge("targets", by=stranger(), carry=["snapshot", "timestamp"]),
        error=SignatureInvalid,
        says=r"4\.targets\.json.*0/1 keys",
        seen=("timestamp.json", "snapshot.json"),
    ),
    "targets by nobody": Attack(
        act=lambda shop: shop.forge("targets", by=[], carry=["snapshot", "timestamp"]),
        error=SignatureInvalid,
        says="Signed by nobody",
        seen=("timestamp.json", "snapshot.json"),
    ),
    "another repository in its place": Attack(
        act=other_repository, error=SignatureInvalid, says=r"its root 1 is another one than the trusted root"
    ),
    "one signature twice": Attack(
        act=lambda shop: edited(shop.path("timestamp"), duplicate_signatures), error=FormatInvalid, says="no metadata"
    ),
    "a web page": Attack(
        act=lambda shop: shop.path("timestamp").write_bytes(b"<html>"), error=FormatInvalid, says="no metadata"
    ),
    "an empty file": Attack(
        act=lambda shop: shop.path("timestamp").write_bytes(b""), error=FormatInvalid, says="no metadata"
    ),
    # rollback
    "an older timestamp": Attack(
        act=lambda shop: shop.forge("timestamp", set_version(2)),
        error=RollbackDetected,
        says=r"version 2; version 3 was seen",
    ),
    "a new timestamp of an older snapshot": Attack(
        act=lambda shop: shop.forge("timestamp", lambda signed: setattr(signed, "snapshot_meta", MetaFile(2))),
        error=RollbackDetected,
        says=r"refers to snapshot of version 2; version 3 was seen",
    ),
    "a new snapshot of older targets": Attack(
        act=lambda shop: shop.forge(
            "snapshot", lambda signed: signed.meta.update({"targets.json": MetaFile(1)}), carry=["timestamp"]
        ),
        error=RollbackDetected,
        says=r"refers to targets of version 1; version 3 was seen",
        seen=("timestamp.json",),
    ),
    "a new snapshot without the targets": Attack(
        act=lambda shop: shop.forge(
            "snapshot",
            lambda signed: setattr(signed, "meta", {"other.json": MetaFile(1)}),
            carry=["timestamp"],
        ),
        error=RollbackDetected,
        says=r"refers to targets of version none; version 3 was seen",
        seen=("timestamp.json",),
    ),
    # freeze
    "an expired timestamp": Attack(
        act=lambda shop: shop.forge("timestamp", expire), error=MetadataExpired, says="timestamp metadata .* expired on"
    ),
    "an expired snapshot": Attack(
        act=lambda shop: shop.forge("snapshot", expire, carry=["timestamp"]),
        error=MetadataExpired,
        says="snapshot metadata .* expired on",
        seen=("timestamp.json",),
    ),
    "expired targets": Attack(
        act=lambda shop: shop.forge("targets", expire, carry=["snapshot", "timestamp"]),
        error=MetadataExpired,
        says="targets metadata .* expired on",
        seen=("timestamp.json", "snapshot.json"),
    ),
    # mix-and-match
    "an older snapshot under the next name": Attack(
        act=lambda shop: older_under_the_next_name(shop, "snapshot"),
        error=MetadataMixed,
        says="version 1, signed, with another digest",
        seen=("timestamp.json",),
    ),
    "older targets under the next name": Attack(
        act=lambda shop: older_under_the_next_name(shop, "targets"),
        error=MetadataMixed,
        says="version 1, signed, with another digest",
        seen=("timestamp.json", "snapshot.json"),
    ),
    "a snapshot of another version than its name": Attack(
        act=no_hashes, error=MetadataMixed, says="Expected snapshot version 4, got 7", seen=("timestamp.json",)
    ),
    "targets of another version than their name": Attack(
        act=targets_without_hashes,
        error=MetadataMixed,
        says="Expected targets v4, got v9",
        seen=("timestamp.json", "snapshot.json"),
    ),
    "a snapshot as timestamp": Attack(
        act=lambda shop: shop.path("timestamp").write_bytes(shop.path("snapshot").read_bytes()),
        error=MetadataMixed,
        says="Expected 'timestamp', got 'snapshot'",
    ),
    # altered on the way
    "an altered snapshot": Attack(
        act=lambda shop: do(lambda: shop.publish({"new.txt": b"next"}), lambda: flip(shop.path("snapshot"))),
        error=DigestMismatch,
        says="not the one that was signed",
        seen=("timestamp.json",),
    ),
    # a later specification
    "a timestamp of a later specification": Attack(
        act=lambda shop: edited(
            shop.path("timestamp"), lambda document: document["signed"].update(spec_version="2.0.0")
        ),
        error=FormatTooNew,
        says=r"follows the specification 2\.0\.0",
    ),
    # root rotation
    "a next root by nobody": Attack(
        act=lambda shop: shop.next_root(by=[]), error=RootInvalid, says="asks for 1 of its keys, 0 signed"
    ),
    "a next root by strangers only": Attack(
        act=lambda shop: shop.next_root(by=stranger()), error=RootInvalid, says="asks for 1 of its keys, 0 signed"
    ),
    "a next root that skips a version": Attack(
        act=lambda shop: shop.next_root(set_version(3), version=2),
        error=RootInvalid,
        says="version 3 where 2 follows",
    ),
    "a next root of the same version": Attack(
        act=lambda shop: shop.next_root(set_version(1), version=2),
        error=RootInvalid,
        says="version 1 where 2 follows",
    ),
    "a next root that is none": Attack(
        act=lambda shop: shop.path("root", 2).write_bytes(shop.path("targets").read_bytes()),
        error=MetadataMixed,
        says="Expected 'root', got 'targets'",
    ),
    "a next root that has expired": Attack(
        act=lambda shop: shop.next_root(expire),
        error=MetadataExpired,
        says="root metadata .* expired on",
        seen=("root.json", "root_history/2.root.json"),
    ),
    # a repository that is not whole
    "no snapshot": Attack(
        act=lambda shop: do(lambda: shop.publish({"new.txt": b"next"}), lambda: shop.path("snapshot").unlink()),
        error=SourceUnreachable,
        says=r"incomplete.*4\.snapshot\.json is not there",
        seen=("timestamp.json",),
    ),
    "no timestamp": Attack(
        act=lambda shop: shop.path("timestamp").unlink(),
        error=SourceUnreachable,
        says="does not look like a repository",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused_by_its_own_name_and_leaves_no_trace(shop: Workshop, attack: Attack) -> None:
    before = shop.kept()
    attack.act(shop)

    with pytest.raises(attack.error, match=f"(?s){attack.says}") as caught:
        shop.client()

    assert type(caught.value) is attack.error
    assert caught.value.usually
    assert "keeps running" in caught.value.todo or isinstance(caught.value, SourceUnreachable)
    after = shop.kept()
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == set(attack.seen)

    shop.restore()
    if "root.json" in attack.seen:  # the true next root follows the one that was seen
        shop.next_root()
        shop.next_root()
        shop.path("root", 2).write_bytes(shop.kept()["root_history/2.root.json"])
    for number in range(2):  # one more than the thief's
        shop.publish({"new.txt": f"good {number}".encode()})
    assert shop.client().target("new.txt") == b"good 1"


def test_every_kind_of_attack_has_its_own_class_and_exit_code() -> None:
    kinds = {attack.error for attack in ATTACKS.values() if issubclass(attack.error, Untrusted)} | {LengthExceeded}
    assert {kind.exit_code for kind in kinds} == {30, 31, 32, 33, 34, 35, 36, 37, 38}


# --- endless data -----------------------------------------------------------------------------------------------------


class Endless(FolderSource):
    """Sends one file for ever."""

    def __init__(self, folder: Path, part: str) -> None:
        super().__init__(folder)
        self.part = part
        self.sent = 0

    @override
    def stream(self, path: str) -> Stream | None:
        return self._for_ever() if self.part in path else super().stream(path)

    def _for_ever(self) -> Stream:
        while True:
            self.sent += 1000
            yield b" " * 1000


@pytest.mark.parametrize(
    ("part", "most"),
    [("2.root.json", 512_000), ("timestamp.json", 16_384), ("snapshot.json", None), ("targets.json", None)],
)
def test_endless_metadata_is_cut_off_at_its_bound(shop: Workshop, part: str, most: int | None) -> None:
    """The first two have a fixed bound; the size of the others is signed."""
    shop.publish({"new.txt": b"next"})
    most = most or shop.path("snapshot" if "snapshot" in part else "targets").stat().st_size
    before = shop.kept()
    source = Endless(shop.store, part)

    with pytest.raises(LengthExceeded, match=rf"{part} is longer than the {most} bytes"):
        shop.client(source)

    assert most < source.sent <= ATTEMPTS * (most + 1000)
    assert shop.kept().keys() == before.keys()
    assert shop.client().target("new.txt") == b"next"


def test_an_endless_target_is_cut_off_at_its_signed_size(shop: Workshop) -> None:
    source = Endless(shop.store, "new.txt")
    trust = shop.client(source)

    with pytest.raises(LengthExceeded, match="longer than the 1 bytes"):
        trust.target("new.txt")

    assert source.sent <= ATTEMPTS * 1000


# --- wrong software ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"), [(b"2", None), (b"9", DigestMismatch), (b"", DigestMismatch), (b"22", LengthExceeded)]
)
def test_a_target_is_the_signed_one_or_none(shop: Workshop, data: bytes, error: type[LadingError] | None) -> None:
    next((shop.store / "targets").glob("*.new.txt")).unlink()
    current = shop.metadata("targets").signed.targets["new.txt"].hashes["sha256"]
    (shop.store / "targets" / f"{current}.new.txt").write_bytes(data)
    if error is None:
        assert shop.client().target("new.txt") == data
        return
    with pytest.raises(error):
        shop.client().target("new.txt")
    assert not list((shop.trust_folder / "targets").iterdir())


def test_a_target_that_nobody_signed_is_not_looked_for(shop: Workshop) -> None:
    (shop.store / "targets" / "unsigned.txt").write_bytes(b"x")
    with pytest.raises(SourceUnreachable, match=r"has no unsigned\.txt"):
        shop.client().target("unsigned.txt")


def test_a_kept_target_that_was_altered_is_fetched_again(shop: Workshop) -> None:
    assert shop.client().target("new.txt") == b"2"
    kept = next((shop.trust_folder / "targets").iterdir())
    kept.write_bytes(b"!")
    assert shop.client().target("new.txt") == b"2"
    assert kept.read_bytes() == b"2"


# --- the root that is given -------------------------------------------------------------------------------------------


def altered(root: bytes) -> bytes:
    document = json.loads(root)
    document["signed"]["version"] = 4
    return json.dumps(document).encode()


def as_too_new(shop: Workshop) -> bytes:
    return shop.root.replace(b'"1.0.31"', b'"2.0.0"')


@pytest.mark.parametrize(
    ("root", "error", "says"),
    [
        (lambda _: b"", RootInvalid, "0 bytes are no metadata"),
        (lambda _: b"{}", RootInvalid, "no metadata"),
        (lambda shop: shop.root[:-30], RootInvalid, "no metadata"),
        (lambda shop: shop.path("targets").read_bytes(), RootInvalid, "it is targets metadata"),
        (lambda shop: shop.root.replace(b'"threshold"', b'"threshol_"'), RootInvalid, "no metadata"),
        (lambda shop: altered(shop.root), RootInvalid, "not signed by its own keys"),
        (as_too_new, FormatTooNew, r"specification 2\.0\.0"),
    ],
    ids=["empty", "no metadata", "cut off", "another role's", "without a field", "altered", "later specification"],
)
def test_a_root_that_is_none_is_refused_before_anything_is_asked(
    shop: Workshop, root: Callable[[Workshop], bytes], error: type[LadingError], says: str
) -> None:
    before = shop.kept()
    source = FolderSource(shop.store)
    with pytest.raises(error, match=says):
        shop.client(source, root(shop))
    assert source.traffic.requests == 0
    assert shop.kept() == before
    shop.client()


def test_the_root_of_another_repository_is_told_as_that(tmp_path: Path) -> None:
    ours, theirs = Workshop(tmp_path / "ours"), Workshop(tmp_path / "theirs")
    ours.publish()
    theirs.publish()
    with pytest.raises(SignatureInvalid, match="its root 1 is another one than the trusted root") as caught:
        ours.client(root=theirs.root)
    assert "belongs to another repository" in caught.value.usually
    for shop in (ours, theirs):
        keyid = shop.keys["root"][0].public_key.keyid
        assert keyid[:8] in caught.value.what


# --- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("years", "says"), [(0, "somebody holds back newer metadata"), (5, "most likely this machine's clock is wrong")]
)
def test_an_expiry_names_both_dates_and_doubts_a_clock_that_is_far_off(shop: Workshop, years: int, says: str) -> None:
    shop.forge("timestamp", expire)
    here = datetime.now(UTC) + timedelta(days=365 * years)
    with pytest.raises(MetadataExpired) as caught:
        Trust(FolderSource(shop.store), shop.root, shop.trust_folder, clock=lambda: here)
    assert f"{here:%Y-%m-%d %H:%M} UTC" in caught.value.what
    assert f"{now() - timedelta(hours=1):%Y-%m-%d}" in caught.value.what
    assert says in caught.value.usually
    assert "clock" in caught.value.todo


# --- fast-forward -----------------------------------------------------------------------------------------------------


def test_clients_that_were_sent_far_ahead_come_back_by_a_rotation(shop: Workshop) -> None:
    """A thief of timestamp and snapshot keys used the numbers up; the copy that is restored has small ones."""
    ahead = set_version(2**31 - 2)
    shop.forge("snapshot", ahead, carry=["timestamp"])
    shop.forge("timestamp", ahead)
    shop.client()
    assert Metadata.from_bytes(shop.kept()["timestamp.json"]).signed.version == 2**31 - 2

    shop.restore()
    with pytest.raises(RollbackDetected):
        shop.client()
    rotate(shop, "timestamp", "snapshot")
    shop.publish({"new.txt": b"back"})

    assert shop.client().target("new.txt") == b"back"
    assert Metadata.from_bytes(shop.kept()["timestamp.json"]).signed.version < 10


def rotate(shop: Workshop, *roles: Role) -> None:
    """A new root with new keys, as the ceremony makes it, and everything signed anew by them."""
    old = {role: shop.keys[role] for role in roles}
    shop.keys |= {role: stranger() for role in roles}

    def change(signed: Any) -> None:
        for role in roles:
            for signer in old[role]:
                signed.revoke_key(signer.public_key.keyid, role)
            for signer in shop.keys[role]:
                signed.add_key(signer.public_key, role)

    shop.next_root(change, by=[*old.get("root", []), *shop.keys["root"]])
    shop.forge("snapshot", carry=["timestamp"])


# --- key rotation -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signed:
    """One version of a role: the numbers of its keys, how many must sign, and which of all keys did."""

    keys: Sequence[int]
    threshold: int
    by: Sequence[int]
    good: bool = True


ROOT_ROTATIONS: dict[str, list[Signed]] = {
    "one key stays": [Signed([1], 1, [1]), Signed([1], 1, [1])],
    "signed by the old and the new": [Signed([1], 1, [1]), Signed([2], 1, [2, 1])],
    "signed by the new only": [Signed([1], 1, [1]), Signed([2], 1, [2], good=False)],
    "signed by the old only": [Signed([1], 1, [1]), Signed([2], 1, [1], good=False)],
    "signed by a stranger too": [Signed([1], 1, [1]), Signed([1], 1, [1, 5])],
    "two of three, one replaced": [Signed([1, 2, 3], 2, [1, 2]), Signed([1, 2, 4], 2, [1, 4, 2])],
    "two of three, too few of the old": [Signed([1, 2, 3], 2, [1, 2]), Signed([1, 2, 4], 2, [1, 4], good=False)],
    "two of three, too few of the new": [Signed([1, 2, 3], 2, [1, 2]), Signed([4, 5, 1], 2, [1, 2], good=False)],
    "a higher threshold": [Signed([1, 2], 1, [1]), Signed([1, 2], 2, [1, 2])],
    "a higher threshold, not reached": [Signed([1, 2], 1, [1]), Signed([1, 2], 2, [1], good=False)],
    "a lower threshold": [Signed([1, 2], 2, [1, 2]), Signed([1, 2], 1, [1, 2]), Signed([1, 2], 1, [2])],
    "a lower threshold, used too early": [Signed([1, 2], 2, [1, 2]), Signed([1, 2], 1, [1], good=False)],
    "a long way": [Signed([1], 1, [1]), Signed([2], 1, [1, 2]), Signed([3], 1, [2, 3]), Signed([4], 1, [3, 4])],
    "a long way with a gap": [Signed([1], 1, [1]), Signed([2], 1, [1, 2]), Signed([4], 1, [3, 4], good=False)],
    "a key that was thrown out comes back": [
        Signed([1], 1, [1]), Signed([2], 1, [1, 2]), Signed([3], 1, [1, 3], good=False),
    ],
}  # fmt: skip


@pytest.mark.parametrize("versions", ROOT_ROTATIONS.values(), ids=ROOT_ROTATIONS)
def test_roots_are_followed_as_far_as_both_sides_have_signed(tmp_path: Path, versions: list[Signed]) -> None:
    pool = [CryptoSigner.generate_ed25519() for _ in range(7)]
    first = versions[0]
    shop = Workshop(
        tmp_path, {**new_keys(), "root": [pool[number] for number in first.keys]}, {"root": first.threshold}
    )
    shop.publish()
    for version in versions[1:]:

        def change(signed: Any, version: Signed = version) -> None:
            signed.roles["root"].keyids = []
            for number in version.keys:
                signed.add_key(pool[number].public_key, "root")
            signed.roles["root"].threshold = version.threshold

        shop.next_root(change, by=[pool[number] for number in version.by])

    sound = sum(version.good for version in versions)
    if sound == len(versions):
        shop.client()
    else:
        with pytest.raises(RootInvalid, match=rf"{sound + 1}\.root\.json .* cannot follow the trusted root {sound}"):
            shop.client()
    followed = Metadata.from_bytes(shop.kept()["root.json"]).signed.version
    assert followed == sound
    assert sorted(name for name in shop.kept() if name.startswith("root_history")) == [
        f"root_history/{number}.root.json" for number in range(1, sound + 1)
    ]


ROLE_ROTATIONS: dict[str, Signed] = {
    "one of one": Signed([1], 1, [1]),
    "by another": Signed([1], 1, [2], good=False),
    "by nobody": Signed([1], 1, [], good=False),
    "both of two": Signed([1, 2], 2, [1, 2]),
    "one of two that must": Signed([1, 2], 2, [1], good=False),
    "one of two and a stranger": Signed([1, 2], 2, [1, 5], good=False),
    "three of five": Signed([1, 2, 3, 4, 5], 3, [5, 2, 3]),
    "two of five where three must": Signed([1, 2, 3, 4, 5], 3, [5, 2], good=False),
    "no key at all": Signed([], 1, [1], good=False),
}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("version", ROLE_ROTATIONS.values(), ids=ROLE_ROTATIONS)
def test_a_rotated_role_counts_by_the_new_root(shop: Workshop, role: Role, version: Signed) -> None:
    pool = [CryptoSigner.generate_ed25519() for _ in range(7)]

    def change(signed: Any) -> None:
        signed.roles[role].keyids = []
        for number in version.keys:
            signed.add_key(pool[number].public_key, role)
        signed.roles[role].threshold = version.threshold

    shop.next_root(change)
    above: dict[str, list[Role]] = {"timestamp": [], "snapshot": ["timestamp"], "targets": ["snapshot", "timestamp"]}
    shop.forge(role, by=[pool[number] for number in version.by], carry=above[role])

    if version.good:
        shop.client()
        assert shop.kept()[f"{role}.json"] == shop.path(role).read_bytes()
    else:
        with pytest.raises(SignatureInvalid, match=rf"{role}\.json .* is not signed as root 2 wants"):
            shop.client()


def test_what_a_revoked_key_had_signed_is_worth_nothing_afterwards(shop: Workshop) -> None:
    kept = shop.path("timestamp").read_bytes()
    rotate(shop, "timestamp")
    shop.client()
    shop.path("timestamp").write_bytes(kept)
    with pytest.raises(SignatureInvalid, match="as root 2 wants"):
        shop.client()


def test_a_root_with_one_key_under_two_names_is_no_threshold(tmp_path: Path) -> None:
    """Two of two, and both are the same key: one signature must not count twice."""
    key = CryptoSigner.generate_ed25519()
    shop = Workshop(tmp_path, {**new_keys(), "timestamp": [key]})
    shop.publish()

    def change(signed: Any) -> None:
        signed.roles["timestamp"].threshold = 2

    shop.next_root(change)
    shop.forge("timestamp")
    with pytest.raises(SignatureInvalid, match="1/2 keys"):
        shop.client()


# --- a poisoned or damaged folder -------------------------------------------------------------------------------------


def forged_next_root(shop: Workshop) -> bytes:
    attacker = Workshop(shop.folder / "attacker", new_keys())
    attacker.publish()
    return attacker.next_root().read_bytes()


DAMAGES: dict[str, Callable[[Workshop], object]] = {
    "a next root by a stranger": lambda shop: (shop.trust_folder / "root_history/2.root.json").write_bytes(
        forged_next_root(shop)
    ),
    "another first root": lambda shop: (shop.trust_folder / "root_history/1.root.json").write_bytes(b"{}"),
    "another root.json": lambda shop: (shop.trust_folder / "root.json").write_bytes(b"{}"),
    "root.json is a folder": lambda shop: do(
        (shop.trust_folder / "root.json").unlink, (shop.trust_folder / "root.json").mkdir
    ),
    "root.json is a link into nowhere": lambda shop: do(
        (shop.trust_folder / "root.json").unlink, lambda: (shop.trust_folder / "root.json").symlink_to("nowhere")
    ),
    "the history is a file": lambda shop: do(
        lambda: shutil.rmtree(shop.trust_folder / "root_history"), (shop.trust_folder / "root_history").touch
    ),
    "the targets are a file": lambda shop: do(
        (shop.trust_folder / "targets").rmdir, (shop.trust_folder / "targets").touch
    ),
    "timestamp.json is empty": lambda shop: (shop.trust_folder / "timestamp.json").write_bytes(b""),
    "timestamp.json is a folder": lambda shop: do(
        (shop.trust_folder / "timestamp.json").unlink, (shop.trust_folder / "timestamp.json").mkdir
    ),
    "everything is zero": lambda shop: [
        path.write_bytes(bytes(path.stat().st_size)) for path in shop.trust_folder.rglob("*.json")
    ],
    "everything is gone": lambda shop: do(*(path.unlink for path in list(shop.trust_folder.rglob("*.json")))),
    "half-written files of a killed run": lambda shop: (shop.trust_folder / ".timestamp.json.x.tmp").write_bytes(b"x"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_recovers_from_the_given_root(shop: Workshop, damage: Callable[[Workshop], object]) -> None:
    whole = shop.kept()
    damage(shop)
    assert shop.client().target("new.txt") == b"2"
    kept = shop.kept()
    assert {name: kept[name] for name in whole} == whole
    assert not [name for name in kept if name.endswith(".tmp")]
    assert (shop.trust_folder / "root.json").is_file()
    assert not (shop.trust_folder / "root.json").is_symlink()


def test_without_its_timestamp_the_folder_still_protects_by_its_snapshot(shop: Workshop) -> None:
    """Somebody replays the first state, all of it properly signed, to a client whose timestamp was lost."""
    (shop.trust_folder / "timestamp.json").unlink()
    shop.forge("snapshot", lambda signed: signed.meta.update({"targets.json": MetaFile(1)}), carry=["timestamp"])
    with pytest.raises(RollbackDetected, match="targets of version 1; version 3 was seen"):
        shop.client()


def test_metadata_in_the_folder_that_nobody_signed_is_not_believed(shop: Workshop) -> None:
    """A forged timestamp with a high number would lock the client out of every update."""
    metadata = shop.metadata("timestamp")
    metadata.signed.version = 99
    metadata.signatures.clear()
    metadata.sign(stranger()[0])
    (shop.trust_folder / "timestamp.json").write_bytes(metadata.to_bytes())
    shop.client()
    assert shop.kept()["timestamp.json"] == shop.path("timestamp").read_bytes()


# --- mirrors ----------------------------------------------------------------------------------------------------------


class Dead:
    """A mirror that never answers."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.wrong: list[str] = []

    def describe(self, path: str) -> str:
        return f"dead:{path}"

    def stream(self, path: str) -> Stream | None:
        raise SourceUnreachable(f"dead:{path} did not answer.")

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        raise SourceUnreachable(f"dead:{path} did not answer: {size} bytes from {start} of {total}.")

    def distrust(self, path: str, why: str) -> None:
        self.wrong.append(f"{path}: {why}")

    def interrupt(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


class Noted(FolderSource):
    """A mirror that remembers that it was wrong."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wrong: list[str] = []

    @override
    def distrust(self, path: str, why: str) -> None:
        self.wrong.append(why)


class Several(Dead):
    """Several mirrors, in order."""

    def __init__(self, *mirrors: Source) -> None:
        super().__init__()
        self.mirrors = mirrors


def copied(shop: Workshop, name: str) -> Workshop:
    """A mirror with the first shop's keys and its present content."""
    shop.keep_copy()
    (shop.folder / "copy").rename(shop.folder / name)
    mirror = Workshop(shop.folder / f"{name}-home", shop.keys)
    mirror.store.parent.mkdir()
    (shop.folder / name).rename(mirror.store)
    return mirror


def expired_ninth(signed: Any) -> None:
    expire(signed)
    signed.version = 9


BROKEN: dict[str, Callable[[Workshop], object]] = {
    "garbage": lambda shop: shop.path("timestamp").write_bytes(b"garbage"),
    "unsigned": lambda shop: shop.forge("timestamp", by=[]),
    "expired": lambda shop: shop.forge("timestamp", expired_ninth),
    "empty": lambda shop: do(*(path.unlink for path in list((shop.store / "metadata").iterdir()))),
    "a forged root": lambda shop: shop.next_root(by=stranger()),
    "an altered snapshot": lambda shop: shop.path("snapshot").write_bytes(b"{}"),
    "behind the others": lambda _: None,
}


@pytest.mark.parametrize("harm", BROKEN.values(), ids=BROKEN)
def test_a_sound_mirror_wins_over_a_bad_one_before_it(shop: Workshop, harm: Callable[[Workshop], object]) -> None:
    behind = copied(shop, "bad")
    shop.publish({"new.txt": b"fresh"})
    shop.client()
    harm(behind)
    bad = Noted(behind.store)
    good = Noted(shop.store)

    trust = shop.client(Several(bad, good))

    assert trust.place is good
    assert trust.target("new.txt") == b"fresh"
    assert good.wrong == []
    assert len(bad.wrong) == (0 if harm is BROKEN["empty"] else 1)


@pytest.mark.parametrize("harm", BROKEN.values(), ids=BROKEN)
def test_the_same_holds_for_mirrors_as_a_user_names_them(shop: Workshop, harm: Callable[[Workshop], object]) -> None:
    behind = copied(shop, "bad")
    shop.publish({"new.txt": b"fresh"})
    shop.client()
    harm(behind)
    with closing(open_source([str(behind.store), str(shop.store)])) as source:
        assert shop.client(source).target("new.txt") == b"fresh"


def test_an_older_mirror_that_is_valid_is_used_while_nothing_newer_was_seen(shop: Workshop) -> None:
    older = copied(shop, "older")
    shop.publish({"new.txt": b"fresh"})
    trust = shop.client(Several(FolderSource(older.store), FolderSource(shop.store)))
    assert trust.target("new.txt") == b"2"


def test_files_with_a_known_digest_come_from_any_mirror(shop: Workshop) -> None:
    """The first mirror has the newest timestamp, but not yet all that it refers to."""
    shop.publish({"new.txt": b"fresh"})
    partial = copied(shop, "partial")
    for path in (partial.path("snapshot"), partial.path("targets")):
        path.unlink()
    for path in (partial.store / "targets").rglob("*.new.txt"):
        path.write_bytes(b"!")
    first = Noted(partial.store)
    trust = shop.client(Several(Dead(), first, FolderSource(shop.store)))
    assert trust.place is first
    assert trust.target("new.txt") == b"fresh"
    assert len(first.wrong) == 1


def test_when_no_mirror_is_sound_every_reason_is_told_and_the_worst_decides(shop: Workshop) -> None:
    expired = copied(shop, "expired")
    expired.forge("timestamp", expire)
    shop.path("timestamp").write_bytes(b"garbage")
    before = shop.kept()
    with pytest.raises(MetadataExpired, match=r"(?s)expired on.*no help:.*dead:.*no metadata"):
        shop.client(Several(Dead(), FolderSource(expired.store), FolderSource(shop.store)))
    assert shop.kept() == before


def test_the_names_of_roles_are_the_four_of_the_specification() -> None:
    assert ROLES == ("root", "targets", "snapshot", "timestamp")
