"""What a host takes: pure checks that are made before the first byte is sent.

An archive can be cut into volumes of any size when it is packed, so a refusal always has a way out; but a release that
lies at one host cannot be cut anew for another. That is why nothing is sent anywhere when one host would refuse.
"""

from __future__ import annotations

from collections.abc import Sequence

from lading.errors import AssetTooLarge, listed
from lading.publish.destination import Sized


def check_sizes(objects: Sequence[Sized], limit: int, where: str) -> None:
    """Refuse objects that are larger than a host takes.

    Args:
        objects: What is to be put there.
        limit: Bytes of the largest object.
        where: The destination, for the message.

    Raises:
        AssetTooLarge: Names each of them, and how to pack again.
    """
    large = [item for item in objects if item.size > limit]
    if large:
        lines = [f"{item.path.rpartition('/')[2]}: {item.size:,} bytes" for item in large]
        raise AssetTooLarge(
            f"{where} takes at most {limit:,} bytes an asset, by `asset_limit` or by the host's own limit; "
            f"larger are:{listed(lines)}",
            usually="It was packed for a destination with a higher limit. Nothing was sent anywhere.",
            todo=f"Pack again with smaller volumes (`lading pack --volume-limit '{limit / 1e6:.0f} MB'`), then publish "
            "to all destinations; or raise `asset_limit` in the manifest, if the host takes more.",
        )


def check_count(count: int, limit: int, where: str) -> None:
    """Refuse more assets than a host takes in one place.

    Args:
        count: How many there are to be.
        limit: How many it takes.
        where: The place, for the message.

    Raises:
        AssetTooLarge: There are more.
    """
    if count > limit:
        raise too_many(f"{where} takes at most {limit:,} assets, not {count:,}.")


def too_many(what: str) -> AssetTooLarge:
    """The error for more assets than a host takes in one place."""
    return AssetTooLarge(
        what,
        usually="The volumes are very small.",
        todo="Pack again with larger volumes (`lading pack --volume-limit`), then publish.",
    )
