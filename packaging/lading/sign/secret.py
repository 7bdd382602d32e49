"""Private keys at rest and in the environment: PKCS #8, encrypted by a passphrase.

Does not: keep a key or passphrase anywhere but in memory, or print one.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from lading.atomic import as_host_error
from lading.errors import KeyUnusable

PASSPHRASE = "LADING_KEY_PASSPHRASE"  # noqa: S105 (the name of a variable)
_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"
_OTHERS = 0o077
_SEED = 32  # bytes of a raw ed25519 private key

Ask = Callable[[str], str]


@dataclass(kw_only=True)
class Passphrases:
    """Where passphrases come from: a file, the environment, or a person; whichever of them there is first.

    Attributes:
        file: A file whose first line is the passphrase.
        environment: Variables.
        ask: Asks a person, with a text that says for which key; none where nobody is there.
    """

    file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    ask: Ask | None = None
    _said: list[str] = field(default_factory=list, repr=False)

    def known(self) -> tuple[str, str] | None:
        """A passphrase that need not be asked for, and where it comes from."""
        if self.file is not None:
            _check_private(self.file)
            return _read(self.file).decode("utf-8", "replace").split("\n")[0].rstrip("\r"), str(self.file)
        if self.environment.get(PASSPHRASE):
            return self.environment[PASSPHRASE], PASSPHRASE
        return None

    def new(self, purpose: str) -> str:
        """The passphrase for new keys; asked for once.

        Raises:
            KeyUnusable: There is none.
        """
        if (known := self.known()) is not None:
            return self._given(*known)
        if not self._said:
            if self.ask is None:
                raise _no_passphrase(purpose)
            self._said.append(self.ask(f"Passphrase for {purpose}"))
        return self._given(self._said[0], "the prompt")

    def candidates(self, purpose: str) -> list[tuple[str, str]]:
        """Passphrases to try on a key, each with its origin; a person is asked only when none is known.

        Raises:
            KeyUnusable: There is none.
        """
        if (known := self.known()) is not None:
            return [known]
        if self.ask is None:
            raise _no_passphrase(purpose)
        return [(text, "the prompt") for text in self._said]

    def asked(self, purpose: str) -> tuple[str, str] | None:
        """Ask a person, and remember the answer for further keys; none where nobody need or can be asked."""
        if self.known() is not None or self.ask is None:
            return None
        self._said.append(self.ask(f"Passphrase for {purpose}"))
        return self._said[-1], "the prompt"

    @staticmethod
    def _given(text: str, origin: str) -> str:
        if not text:
            raise KeyUnusable(
                f"The passphrase from {origin} is empty.",
                todo="Give one; or say --no-passphrase, and keep the files where nobody else can read them.",
            )
        return text


def encrypted(signer: CryptoSigner, passphrase: str | None) -> bytes:
    """A private key as PKCS #8 in PEM, encrypted unless there is no passphrase."""
    private = load_pem_private_key(signer.private_bytes, password=None)
    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def open_file(path: Path, passphrases: Passphrases) -> CryptoSigner:
    """Open a private key in a file.

    Args:
        path: A PKCS #8 PEM file that only its owner can read.
        passphrases: What may open it.

    Raises:
        KeyUnusable: It is not there, open to others, damaged, of another kind, or the passphrase is wrong.
    """
    _check_private(path)
    return _open(_read(path), str(path), passphrases)


def open_text(text: str, origin: str, passphrases: Passphrases) -> CryptoSigner:
    """Open a private key from a variable.

    Args:
        text: PEM; or base64 of PEM, of PKCS #8 in DER, or of the 32 bytes of an ed25519 key.
        origin: Where it comes from, for messages.
        passphrases: What may open it.

    Raises:
        KeyUnusable: It is none of these, or the passphrase is wrong.
    """
    if "-----BEGIN" in text:
        return _open(text.replace("\\n", "\n").encode(), origin, passphrases)  # some CI systems keep one line only
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise _unusable(origin, "it is neither PEM nor base64") from error
    if len(data) == _SEED:
        return CryptoSigner(Ed25519PrivateKey.from_private_bytes(data))
    return _open(data, origin, passphrases)


def _open(data: bytes, origin: str, passphrases: Passphrases) -> CryptoSigner:
    if _ENCRYPTED not in data:
        return _signer(data, None, origin)
    tried: list[str] = []
    for passphrase, where in passphrases.candidates(origin):
        tried.append(where)
        if (signer := _try(data, passphrase, origin)) is not None:
            return signer
    if (answer := passphrases.asked(origin)) is not None:
        tried.append(answer[1])
        if (signer := _try(data, answer[0], origin)) is not None:
            return signer
    raise KeyUnusable(
        f"The passphrase from {tried[-1]} does not open {origin}.",
        usually="It is another key's passphrase, or was mistyped.",
        todo=f"Run the same command again with the right one: a file by --passphrase-file, or {PASSPHRASE}.",
    )


def _try(data: bytes, passphrase: str, origin: str) -> CryptoSigner | None:
    try:
        load_pem_private_key(data, password=passphrase.encode() or b"\0")
    except ValueError:  # what a wrong passphrase gives, and a damaged file too: both say so in the end
        return None
    return _signer(data, passphrase, origin)


def _signer(data: bytes, passphrase: str | None, origin: str) -> CryptoSigner:
    load = load_pem_private_key if data.lstrip().startswith(b"-----BEGIN") else load_der_private_key
    try:
        private = load(data, password=passphrase.encode() if passphrase else None)
    except (ValueError, TypeError) as error:
        raise _unusable(origin, f"it is no private key ({error})") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _unusable(origin, f"it is a {type(private).__name__.removeprefix('_')}, and only ed25519 keys are ours")
    return CryptoSigner(private)


def _check_private(path: Path) -> None:
    """A secret that others can read is not secret: better no signature than one by everybody."""
    if os.name != "posix" or not path.exists():
        return
    mode = path.stat().st_mode & 0o777
    if mode & _OTHERS:
        raise KeyUnusable(
            f"{path} can be read by others on this machine (mode {mode:04o}).",
            usually="It was copied without its permissions.",
            todo=f"Run `chmod 600 {path}`; if others may have read it, rotate the key.",
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise KeyUnusable(
            f"There is no {path}.",
            usually="The key is kept offline, or on another machine.",
            todo="Run this where it is, or bring it here.",
        ) from error
    except OSError as error:
        raise as_host_error(error, f"reading {path}") from error


def _unusable(origin: str, why: str) -> KeyUnusable:
    return KeyUnusable(
        f"The key in {origin} cannot be used: {why}.",
        usually="It was cut off, edited, or is another file.",
        todo="Restore it from its copy; if there is none, rotate the key.",
    )


def _no_passphrase(purpose: str) -> KeyUnusable:
    return KeyUnusable(
        f"There is no passphrase for {purpose}, and nobody to ask.",
        usually="The command runs without a terminal.",
        todo=f"Give a file by --passphrase-file, or set {PASSPHRASE}.",
    )
