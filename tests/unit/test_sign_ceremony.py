"""Real keys: made, kept, opened, rotated, renewed; with all of them here, and with some far away."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from typing_extensions import override

from lading.errors import (
    ConfigError,
    FormatInvalid,
    KeyMissing,
    KeyUnusable,
    LadingError,
    MetadataExpired,
    SignatureInvalid,
)
from lading.fetch.folder import FolderSource
from lading.fetch.trust import Trust
from lading.publish.folder import FolderDestination
from lading.publish.refresh import refresh
from lading.sign.ceremony import Elsewhere, KeyPlan, RootChange, Rotation, make_keys, rotate, sign_root
from lading.sign.keyring import PENDING, KeyFolder, open_keys, open_ring
from lading.sign.keys import ROLES, Role, development_keys
from lading.sign.repository import folder_reader, load_state, sign_repository
from lading.sign.secret import Passphrases, encrypted, open_file, open_text
from lading.sign.status import trust_status

ONE = {"channels/demo/stable.json": b"one"}
SECRET = "correct horse"


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def words(text: str = SECRET) -> Passphrases:
    return Passphrases(environment={"LADING_KEY_PASSPHRASE": text} if text else {})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Three root keys of which two must sign, and one key for every other role."""
    make_keys(tmp_path / "keys", KeyPlan(counts={"root": 3}, thresholds={"root": 2}), words(), now())
    return tmp_path / "keys"


@pytest.fixture
def store(tmp_path: Path, keys: Path) -> Path:
    """A repository that these keys have signed."""
    sign_repository(tmp_path / "store", open_ring(keys, words(), {}), ONE, now())
    return tmp_path / "store"


def move(keys: Path, away: Path, *names: str) -> None:
    away.mkdir(exist_ok=True)
    for name in names:
        (keys / f"{name}.pem").rename(away / f"{name}.pem")


def client(store: Path, root: bytes, trust: Path) -> bytes:
    return Trust(FolderSource(store), root, trust).target("channels/demo/stable.json")


def key_names(change: RootChange, role: Role) -> list[str]:
    found = next(item for item in change.roles if item.role == role)
    return [key.split(" ")[0] for key in found.keys]


# --- making -----------------------------------------------------------------------------------------------------------


def test_keys_are_made_encrypted_private_and_with_a_root_that_all_have_signed(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    change = make_keys(folder, KeyPlan(counts={"root": 3}, thresholds={"root": 2}), words(), now())

    assert change.complete
    assert change.file == str(folder / "1.root.json")
    assert len(change.signed_by) == 3
    assert sorted(contents(folder)) == [
        ".gitignore", "1.root.json", "keys.json", "root-1.pem", "root-2.pem", "root-3.pem", "snapshot-1.pem",
        "targets-1.pem", "timestamp-1.pem",
    ]  # fmt: skip
    for file in folder.glob("*.pem"):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in file.read_bytes()
        if os.name == "posix":
            assert file.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (folder / "keys.json").read_bytes()
    root = Metadata[Root].from_bytes((folder / "1.root.json").read_bytes()).signed
    assert (len(root.roles["root"].keyids), root.roles["root"].threshold) == (3, 2)
    assert {key.keytype for key in root.keys.values()} == {"ed25519"}
    assert root.consistent_snapshot is True
    assert "x-lading-development" not in root.unrecognized_fields


def test_keys_are_not_made_twice_nor_over_development_keys(keys: Path, tmp_path: Path) -> None:
    before = contents(keys)
    with pytest.raises(ConfigError, match="has keys already"):
        make_keys(keys, KeyPlan(), words(), now())
    assert contents(keys) == before
    development_keys(tmp_path / "dev")
    with pytest.raises(ConfigError, match="has keys already"):
        make_keys(tmp_path / "dev", KeyPlan(), words(), now())


@pytest.mark.parametrize("counts", [{"root": 1}, {}])
def test_a_threshold_that_nobody_could_reach_is_refused_before_anything_is_written(
    tmp_path: Path, counts: dict[Role, int]
) -> None:
    with pytest.raises(ConfigError, match="1 keys and need 2 signatures"):
        make_keys(tmp_path / "keys", KeyPlan(counts=counts, thresholds={"root": 2}), words(), now())
    assert not (tmp_path / "keys").exists()


def test_without_a_passphrase_nothing_is_made_unless_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="no passphrase"):
        make_keys(tmp_path / "keys", KeyPlan(), words(""), now())
    assert not (tmp_path / "keys").exists()
    make_keys(tmp_path / "keys", KeyPlan(encrypt=False), words(""), now())
    assert b"BEGIN PRIVATE KEY" in (tmp_path / "keys/root-1.pem").read_bytes()


# --- opening ----------------------------------------------------------------------------------------------------------


def pem(private: Any) -> bytes:
    return bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def elliptic() -> bytes:
    return pem(generate_private_key(SECP256R1()))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda data: data[:80], "does not open"),
        (lambda _: b"", "it is no private key"),
        (lambda _: b"\xff\x00garbage", "it is no private key"),
        (lambda _: elliptic(), "only ed25519 keys are ours"),
    ],
    ids=["cut off", "empty", "garbage", "another kind"],
)
def test_a_key_file_that_is_none_is_named(keys: Path, harm: Callable[[bytes], bytes], says: str) -> None:
    path = keys / "targets-1.pem"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(KeyUnusable, match=says) as caught:
        open_file(path, words())
    assert "targets-1.pem" in caught.value.what


def test_a_wrong_passphrase_says_where_it_came_from(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=r"from LADING_KEY_PASSPHRASE does not open .*targets-1\.pem"):
        open_file(keys / "targets-1.pem", words("wrong"))
    said = tmp_path / "passphrase"
    said.write_text("wrong\n")
    said.chmod(0o600)
    with pytest.raises(KeyUnusable, match=r"passphrase does not open"):
        open_file(keys / "targets-1.pem", Passphrases(file=said, environment={}))
    said.write_text(f"{SECRET}\r\nsecond line\n")
    open_file(keys / "targets-1.pem", Passphrases(file=said, environment={}))


def test_a_person_is_asked_once_for_what_is_the_same(keys: Path) -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return SECRET

    passphrases = Passphrases(environment={}, ask=answer)
    for name in ("targets-1", "snapshot-1"):
        open_file(keys / f"{name}.pem", passphrases)
    assert len(asked) == 1
    assert "targets-1.pem" in asked[0]


def test_a_person_is_asked_again_for_a_key_with_another_passphrase(keys: Path) -> None:
    other = encrypted(CryptoSigner.generate_ed25519(), "other")
    (keys / "other.pem").write_bytes(other)
    (keys / "other.pem").chmod(0o600)
    answers = [SECRET, "other"]
    passphrases = Passphrases(environment={}, ask=lambda _: answers.pop(0))
    open_file(keys / "targets-1.pem", passphrases)
    open_file(keys / "other.pem", passphrases)
    assert answers == []


@pytest.mark.skipif(os.name != "posix", reason="access lists decide there")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666])
def test_a_key_that_others_can_read_is_not_used(keys: Path, mode: int) -> None:
    path = keys / "targets-1.pem"
    path.chmod(mode)
    with pytest.raises(KeyUnusable, match=f"mode {mode:04o}") as caught:
        open_file(path, words())
    assert "chmod 600" in caught.value.todo


@pytest.mark.parametrize("form", ["pem", "one line", "base64 of pem", "base64 of der", "seed"])
def test_a_key_comes_from_a_variable_in_every_form_that_ci_systems_keep(form: str) -> None:
    signer = CryptoSigner.generate_ed25519()
    private: Any = signer._private_key
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    text = signer.private_bytes.decode()
    forms = {
        "pem": text,
        "one line": text.replace("\n", "\\n"),
        "base64 of pem": base64.b64encode(text.encode()).decode() + "\n",
        "base64 of der": base64.b64encode(der).decode(),
        "seed": base64.b64encode(private.private_bytes_raw()).decode(),
    }
    assert open_text(forms[form], "X", words()).public_key.keyid == signer.public_key.keyid


def test_an_encrypted_key_comes_from_a_variable_too(keys: Path) -> None:
    text = (keys / "timestamp-1.pem").read_text()
    assert open_text(text, "the variable X", words()).public_key.keyid
    with pytest.raises(KeyUnusable, match="does not open the variable X"):
        open_text(text, "the variable X", words("wrong"))
    with pytest.raises(KeyUnusable, match="neither PEM nor base64"):
        open_text("%%%", "the variable X", words())


# --- who is needed ----------------------------------------------------------------------------------------------------


def test_a_release_needs_no_root_key(keys: Path, store: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "root-1", "root-2", "root-3")
    ring = open_ring(keys, words(), {})
    update = sign_repository(store, ring, {"channels/demo/stable.json": b"two"}, now())
    assert update.versions == {"root": 1, "targets": 2, "snapshot": 2, "timestamp": 2}
    assert client(store, ring.roots[0], tmp_path / "trust") == b"two"


def test_a_missing_key_names_role_key_and_where_to_run(keys: Path, store: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "targets-1")
    before = contents(store)
    with pytest.raises(
        KeyMissing, match=r"New targets metadata needs 1 of the keys targets-1 \(.*\); 0 of them"
    ) as caught:
        sign_repository(store, open_ring(keys, words(), {}), {"channels/demo/stable.json": b"two"}, now())
    assert "LADING_KEY_TARGETS" in caught.value.todo
    assert contents(store) == before


def test_a_variable_does_for_a_key_that_is_not_here(keys: Path, store: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "targets-1", "snapshot-1", "timestamp-1")
    environment = {
        f"LADING_KEY_{role.upper()}": (tmp_path / f"safe/{role}-1.pem").read_text()
        for role in ("targets", "snapshot", "timestamp")
    }
    ring = open_ring(keys, words(), environment)
    sign_repository(store, ring, {"channels/demo/stable.json": b"two"}, now())
    assert client(store, ring.roots[0], tmp_path / "trust") == b"two"


def test_a_variable_with_another_key_is_refused_and_named(keys: Path, store: Path) -> None:
    before = contents(store)
    environment = {"LADING_KEY_TIMESTAMP": CryptoSigner.generate_ed25519().private_bytes.decode()}
    with pytest.raises(KeyUnusable, match=r"variable LADING_KEY_TIMESTAMP is .*; the root knows timestamp-1"):
        refresh(FolderDestination(store), open_ring(keys, words(), environment))
    assert contents(store) == {**before, ".lading-publish.lock": b""}


def test_a_key_file_that_was_replaced_is_refused(keys: Path, store: Path) -> None:
    shutil.copy(keys / "snapshot-1.pem", keys / "timestamp-1.pem")
    with pytest.raises(KeyUnusable, match=r"pem:timestamp-1\.pem is .*; the root knows timestamp-1"):
        refresh(FolderDestination(store), open_ring(keys, words(), {}))


def test_a_key_that_something_else_keeps_signs_by_its_address(tmp_path: Path) -> None:
    """``file2:`` stands for every kind of place: they are opened in the same way."""
    signer = CryptoSigner.generate_ed25519()
    (tmp_path / "vault.pem").write_bytes(signer.private_bytes)
    public = signer._private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    there = Elsewhere(uri=f"file2:{tmp_path / 'vault.pem'}", public=public)
    make_keys(tmp_path / "keys", KeyPlan(elsewhere={"targets": [there]}), words(), now())
    assert not (tmp_path / "keys/targets-1.pem").exists()
    ring = open_ring(tmp_path / "keys", words(), {})
    sign_repository(tmp_path / "store", ring, ONE, now())
    assert client(tmp_path / "store", ring.roots[0], tmp_path / "trust") == b"one"

    (tmp_path / "vault.pem").unlink()
    before = contents(tmp_path / "store")
    ring = open_ring(tmp_path / "keys", words(), {})
    with pytest.raises(KeyUnusable, match="The key targets-1 at file2:"):
        sign_repository(tmp_path / "store", ring, {"channels/demo/stable.json": b"two"}, now())
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("uri", ["nowhere:key", "awskms:alias/key", "hsm:2?label=x"])
def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, uri: str) -> None:
    public = CryptoSigner.generate_ed25519()._private_key.public_key()
    there = Elsewhere(uri=uri, public=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    make_keys(tmp_path / "keys", KeyPlan(elsewhere={"targets": [there]}), words(), now())
    with pytest.raises(LadingError, match="The key targets-1 "):
        sign_repository(tmp_path / "store", open_ring(tmp_path / "keys", words(), {}), ONE, now())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("make", "kind"), [(CryptoSigner.generate_rsa, "rsa"), (CryptoSigner.generate_ecdsa, "ecdsa")])
def test_keys_that_a_frozen_client_cannot_verify_by_itself_are_told_of(
    tmp_path: Path, make: Callable[[], CryptoSigner], kind: str
) -> None:
    public = make()._private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    there = Elsewhere(uri=f"file2:{tmp_path / 'vault.pem'}", public=public)
    change = make_keys(tmp_path / "keys", KeyPlan(elsewhere={"timestamp": [there]}), words(), now())
    assert [line.partition(":")[0] for line in change.warnings] == [f"{kind} keys"]
    assert make_keys(tmp_path / "plain", KeyPlan(), words(), now()).warnings == ()


# --- rotating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_rotated_role_is_signed_anew_and_clients_follow(keys: Path, store: Path, tmp_path: Path, role: Role) -> None:
    first = KeyFolder(keys).roots()[0]
    assert client(store, first, tmp_path / "trust") == b"one"

    change = rotate(keys, Rotation(role=role), words(), now())
    assert change.complete
    assert key_names(change, role) == [f"{role}-2"]
    result = refresh(FolderDestination(store), open_ring(keys, words(), {}))

    assert result.versions["root"] == 2
    assert result.files[-1] == "metadata/2.root.json"
    assert client(store, first, tmp_path / "trust") == b"one"
    assert client(store, KeyFolder(keys).roots()[1], tmp_path / "new-client") == b"one"
    old = KeyFolder(keys).ring().keys
    assert [entry.name for entry in old if entry.name.startswith(role)] == [f"{role}-1", f"{role}-2"]


@pytest.mark.parametrize("stop", range(3))
def test_a_rotation_that_is_cut_short_serves_clients_at_every_step_and_is_finished_later(
    keys: Path, store: Path, tmp_path: Path, stop: int
) -> None:
    """The old key signs beside the new one, so there is no moment at which root and timestamp do not fit."""
    first = KeyFolder(keys).roots()[0]
    rotate(keys, Rotation(role="timestamp"), words(), now())
    ring = open_ring(keys, words(), {})

    class Stops(FolderDestination):
        left = stop

        @override
        def put_bytes(self, path: str, data: bytes) -> int:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().put_bytes(path, data)

    try:
        refresh(Stops(store), ring)
    except KeyboardInterrupt:
        assert stop < 2  # the timestamp, then the root
    else:
        assert stop == 2
    assert client(store, first, tmp_path / "trust") == b"one"
    refresh(FolderDestination(store), open_ring(keys, words(), {}))
    assert client(store, first, tmp_path / "trust") == b"one"
    assert load_state(folder_reader(store), ring).versions()["root"] == 2


def test_a_rotation_without_the_old_key_is_taken_up_after_a_crash(keys: Path, store: Path, tmp_path: Path) -> None:
    """The key was lost: what the new one signed cannot be read by the old root, until the new root is there."""
    first = KeyFolder(keys).roots()[0]
    rotate(keys, Rotation(role="timestamp"), words(), now())
    (keys / "timestamp-1.pem").unlink()
    refresh(FolderDestination(store), open_ring(keys, words(), {}))
    (store / "metadata/2.root.json").unlink()
    with pytest.raises(SignatureInvalid):
        client(store, first, tmp_path / "trust")
    refresh(FolderDestination(store), open_ring(keys, words(), {}))
    assert client(store, first, tmp_path / "trust") == b"one"


def test_a_root_key_is_replaced_by_two_others(keys: Path, store: Path, tmp_path: Path) -> None:
    first = KeyFolder(keys).roots()[0]
    (keys / "root-2.pem").unlink()
    change = rotate(keys, Rotation(role="root", replace=("root-2",)), words(), now())
    assert change.complete
    assert key_names(change, "root") == ["root-1", "root-3", "root-4"]
    refresh(FolderDestination(store), open_ring(keys, words(), {}))
    assert client(store, first, tmp_path / "trust") == b"one"


def test_keys_in_three_places_make_a_root_together(keys: Path, store: Path, tmp_path: Path) -> None:
    first = KeyFolder(keys).roots()[0]
    move(keys, tmp_path / "stick", "root-2")
    move(keys, tmp_path / "safe", "root-1", "root-3")

    change = rotate(keys, Rotation(role="targets"), words(), now())
    assert not change.complete
    assert len(change.missing) == 2
    assert all("asks for 2 more of: root-1" in line for line in change.missing)
    assert len(KeyFolder(keys).roots()) == 1
    with pytest.raises(ConfigError, match="waiting for signatures"):
        rotate(keys, None, words(), now())

    carried = tmp_path / "stick" / PENDING
    shutil.copy(keys / PENDING, carried)
    sign_root(carried, tmp_path / "none", words(), [open_file(tmp_path / "stick/root-2.pem", words())])
    shutil.copy(carried, keys / PENDING)
    with pytest.raises(KeyMissing, match="No key is here"):
        sign_root(keys / PENDING, keys, words())
    done = sign_root(keys / PENDING, keys, words(), [open_file(tmp_path / "safe/root-3.pem", words())])

    assert done.complete
    assert {name.split(" ")[0] for name in done.signed_by} == {"root-2", "root-3"}
    assert not (keys / PENDING).exists()
    refresh(FolderDestination(store), open_ring(keys, words(), {}))
    assert client(store, first, tmp_path / "trust") == b"one"


def test_a_root_that_came_back_with_all_signatures_is_put_in_force_without_any_key(keys: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "root-1", "root-2", "root-3")
    rotate(keys, None, words(), now())
    for number in (1, 2):
        signer = open_file(tmp_path / f"safe/root-{number}.pem", words())
        shutil.copy(keys / PENDING, tmp_path / PENDING)
        sign_root(tmp_path / PENDING, tmp_path / "none", words(), [signer])
        shutil.copy(tmp_path / PENDING, keys / PENDING)
    assert sign_root(keys / PENDING, keys, words("")).complete
    assert len(KeyFolder(keys).roots()) == 2


def test_a_stranger_cannot_sign_a_root(keys: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "root-1", "root-2", "root-3")
    rotate(keys, None, words(), now())
    before = (keys / PENDING).read_bytes()
    with pytest.raises(KeyMissing, match="could sign root 2"):
        sign_root(keys / PENDING, keys, words(), [CryptoSigner.generate_ed25519()])
    assert (keys / PENDING).read_bytes() == before


@pytest.mark.parametrize(
    ("data", "says"), [(b"", "no root metadata"), (b"{}", "no root metadata"), (None, "is snapshot metadata")]
)
def test_a_file_that_is_no_root_is_not_signed(
    keys: Path, store: Path, tmp_path: Path, data: bytes | None, says: str
) -> None:
    file = tmp_path / "root.pending.json"
    file.write_bytes((store / "metadata/1.snapshot.json").read_bytes() if data is None else data)
    with pytest.raises(FormatInvalid, match=says):
        sign_root(file, keys, words())


def test_a_waiting_root_of_an_earlier_rotation_is_refused(keys: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "root-1", "root-2", "root-3")
    rotate(keys, None, words(), now())
    stale = tmp_path / "stale.json"
    (keys / PENDING).rename(stale)
    shutil.copytree(tmp_path / "safe", keys, dirs_exist_ok=True)
    rotate(keys, None, words(), now())
    with pytest.raises(ConfigError, match=r"waiting root has version 2; the newest root in .* has 2"):
        sign_root(stale, keys, words())


@pytest.mark.parametrize(
    ("rotation", "says"),
    [
        (Rotation(role="root"), "several keys: root-1, root-2, root-3"),
        (Rotation(role="root", replace=("root-9",)), "no key root-9; it has root-1"),
        (Rotation(role="root", replace=("root-1", "root-2", "root-3")), "1 keys and need 2 signatures"),
        (Rotation(role="targets", new=False), "0 keys and need 1 signatures"),
        (Rotation(role="targets", threshold=2), "1 keys and need 2 signatures"),
    ],
)
def test_an_impossible_rotation_leaves_everything_as_it_was(keys: Path, rotation: Rotation, says: str) -> None:
    before = contents(keys)
    with pytest.raises(ConfigError, match=says):
        rotate(keys, rotation, words(), now())
    assert contents(keys) == before


def test_a_second_releaser_is_added_and_taken_out_again(keys: Path, store: Path) -> None:
    change = rotate(keys, Rotation(role="targets", replace=(), threshold=2), words(), now())
    assert key_names(change, "targets") == ["targets-1", "targets-2"]
    ring = open_ring(keys, words(), {})
    sign_repository(store, ring, {"channels/demo/stable.json": b"two"}, now())
    metadata = Metadata.from_bytes((store / "metadata/2.targets.json").read_bytes())
    assert len(metadata.signatures) == 2
    change = rotate(keys, Rotation(role="targets", new=False, replace=("targets-1",), threshold=1), words(), now())
    assert key_names(change, "targets") == ["targets-2"]
    assert change.version == 3


def test_a_repository_of_other_keys_is_not_built_upon(keys: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other", KeyPlan(), words(), now())
    sign_repository(tmp_path / "store", open_ring(tmp_path / "other", words(), {}), ONE, now())
    before = contents(tmp_path / "store")
    with pytest.raises(SignatureInvalid, match="root 1 is not the root 1 of the keys at hand"):
        sign_repository(tmp_path / "store", open_ring(keys, words(), {}), {"x": b"x"}, now())
    assert contents(tmp_path / "store") == before


def test_an_older_copy_of_the_keys_follows_the_repositorys_roots(keys: Path, store: Path, tmp_path: Path) -> None:
    """Somebody else rotated the timestamp; a releaser with the folder of yesterday still signs what did not change."""
    shutil.copytree(keys, tmp_path / "yesterday")
    rotate(keys, Rotation(role="root", replace=("root-3",)), words(), now())
    refresh(FolderDestination(store), open_ring(keys, words(), {}))
    update = sign_repository(store, open_ring(tmp_path / "yesterday", words(), {}), {"x.json": b"x"}, now())
    assert update.versions["root"] == 2


# --- keeping fresh ----------------------------------------------------------------------------------------------------


def test_a_renewal_signs_the_timestamp_and_touches_nothing_else(keys: Path, store: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "root-1", "root-2", "root-3", "targets-1")
    before = contents(store)
    result = refresh(FolderDestination(store), open_ring(keys, words(), {}), days=7)
    after = contents(store)
    after.pop(".lading-publish.lock", None)
    assert result.files == ("metadata/timestamp.json",)
    assert {name for name in after if after[name] != before.get(name)} == {"metadata/timestamp.json"}
    assert before.keys() == after.keys()
    expires = datetime.fromisoformat(result.expires["timestamp"])
    assert timedelta(days=6, hours=23) < expires - now() <= timedelta(days=7)


def test_a_renewal_takes_the_snapshot_along_when_it_is_due(keys: Path, store: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "root-1", "root-2", "root-3", "targets-1")
    later = now() + timedelta(days=60)
    result = refresh(FolderDestination(store), open_ring(keys, words(), {}), lambda: later)
    assert result.files == ("metadata/2.snapshot.json", "metadata/timestamp.json")


def test_what_is_due_waits_for_its_key_and_what_has_expired_does_not(keys: Path, store: Path, tmp_path: Path) -> None:
    move(keys, tmp_path / "safe", "targets-1")
    ring = open_ring(keys, words(), {})
    due = now() + timedelta(days=300)
    assert "metadata/2.targets.json" not in refresh(FolderDestination(store), ring, lambda: due).files
    rotate(keys, None, words(), now() + timedelta(days=300))
    ring = open_ring(keys, words(), {})
    before = contents(store)
    with pytest.raises(KeyMissing, match="New targets"):
        refresh(FolderDestination(store), ring, lambda: now() + timedelta(days=366))
    assert contents(store) == before


def test_under_a_root_that_has_expired_nothing_is_signed(keys: Path, store: Path) -> None:
    before = contents(store)
    with pytest.raises(MetadataExpired, match=r"Root 1 expired on .*") as caught:
        refresh(FolderDestination(store), open_ring(keys, words(), {}), lambda: now() + timedelta(days=366))
    assert "lading keys renew" in caught.value.todo
    assert contents(store) == {**before, ".lading-publish.lock": b""}


def test_a_folder_without_a_repository_is_not_renewed(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no metadata that could be signed anew"):
        refresh(FolderDestination(tmp_path / "empty"), open_ring(keys, words(), {}))


def test_development_keys_stay_what_they_are(tmp_path: Path) -> None:
    provider = open_keys(tmp_path / "dev", words())
    assert provider.development
    assert provider.roots == ()
    sign_repository(tmp_path / "store", provider, ONE, now())
    assert refresh(FolderDestination(tmp_path / "store"), provider).files == ("metadata/timestamp.json",)


# --- looking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "worst", "roles"),
    [
        (0, "good", {}),
        (19, "good", {}),
        (21, "soon", {"timestamp": "soon"}),
        (30, "expired", {"timestamp": "expired"}),
        (81, "expired", {"timestamp": "expired", "snapshot": "soon"}),
        (340, "expired", {"timestamp": "expired", "snapshot": "expired", "root": "soon", "targets": "soon"}),
        (366, "expired", dict.fromkeys(ROLES, "expired")),
    ],
)
def test_the_status_tells_in_time_what_expires(
    keys: Path, store: Path, days: int, worst: str, roles: dict[Role, str]
) -> None:
    ring = open_ring(keys, words(""), {})
    report = trust_status(load_state(folder_reader(store), ring), ring, now() + timedelta(days=days))
    assert report.condition == worst
    assert {item.role: item.condition for item in report.roles if item.condition != "good"} == roles
    for role, condition in roles.items():
        word = "has expired" if condition == "expired" else "expires in"
        assert any(line.startswith(f"{role} {word}") for line in report.warnings)


def test_the_status_asks_for_no_passphrase_and_says_which_keys_are_here(
    keys: Path, store: Path, tmp_path: Path
) -> None:
    move(keys, tmp_path / "safe", "root-1", "root-2", "root-3")
    ring = open_ring(keys, words(""), {"LADING_KEY_TIMESTAMP": "anything"})
    report = trust_status(load_state(folder_reader(store), ring), ring, now(), within=400)
    here = {item.role: [key.at_hand for key in item.keys] for item in report.roles}
    assert here == {"root": [False] * 3, "targets": [True], "snapshot": [True], "timestamp": [True]}
    assert [item.threshold for item in report.roles] == [2, 1, 1, 1]
    assert report.condition == "soon"


def test_the_status_of_keys_without_a_repository_and_of_a_repository_without_keys(keys: Path, store: Path) -> None:
    report = trust_status(load_state(folder_reader(store), None), None, now())
    assert [len(item.keys) for item in report.roles] == [3, 1, 1, 1]
    assert not any(key.at_hand for item in report.roles for key in item.keys)
    rotate(keys, None, words(), now())
    ring = open_ring(keys, words(), {})
    report = trust_status(load_state(folder_reader(store), ring), ring, now())
    assert any("not in the repository yet" in line for line in report.warnings)


def test_the_record_of_keys_is_readable_and_a_damaged_one_is_refused(keys: Path) -> None:
    record = json.loads((keys / "keys.json").read_text())
    assert record["schema"] == "lading/keys/1"
    assert (keys / "keys.json").read_text().count("\n") > 20
    (keys / "keys.json").write_text("{")
    with pytest.raises(FormatInvalid, match=r"keys\.json"):
        open_ring(keys, words())
    (keys / "keys.json").unlink()
    with pytest.raises(ConfigError, match="lading keys init"):
        open_ring(keys, words())
