"""Which keys a frozen client can verify with nothing else in it."""

from __future__ import annotations

from tuf.api.metadata import Root

PLAIN = "ed25519"  # what python-tuf's signer verifies without the package ``cryptography``


def scheme_warnings(root: Root) -> tuple[str, ...]:
    """What those who change keys should know before clients meet them.

    Args:
        root: The root that says which keys count.

    Returns:
        One line for each kind of key that a frozen client verifies only with :mod:`lading.client.signatures`.
    """
    kinds = sorted({key.keytype for key in root.keys.values()} - {PLAIN})
    return tuple(
        f"{kind} keys: a frozen client that does not import lading.client.signatures cannot verify them, "
        "and refuses every update"
        for kind in kinds
    )
