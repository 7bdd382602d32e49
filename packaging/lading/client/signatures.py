"""Import this in a program that is frozen, when the repository is signed with other keys than ed25519.

A frozen program verifies ed25519 signatures, which are what ``lading keys`` makes, with nothing else. Keys that live in
a cloud or a card are often RSA or ECDSA: these need the ``cryptography`` package, about 15 MB, which PyInstaller brings
in because this module imports it. Outside of a frozen program it is always there.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, types, utils

__all__ = ["InvalidSignature", "ec", "ed25519", "hashes", "padding", "rsa", "serialization", "types", "utils"]
