"""Two publishers at the same moment, for every kind of destination."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lading.errors import Busy


def race(publish: Callable[[str], object], *versions: str) -> list[str]:
    """Publish several versions at once, each in a thread of its own.

    Args:
        publish: Publishes one.
        versions: All of them.

    Returns:
        Those that were published; the others were told that somebody else is at it.
    """
    done: list[str] = []
    failed: list[BaseException] = []

    def go(version: str) -> None:
        try:
            publish(version)
            done.append(version)
        except Busy:
            pass
        except BaseException as error:  # noqa: BLE001 (told below)
            failed.append(error)

    threads = [threading.Thread(target=go, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert done, "nobody won"
    return done
