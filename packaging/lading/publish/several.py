"""Open the destinations that somebody named, of which some may not be usable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lading.errors import LadingError, ManifestInvalid
from lading.publish.destination import Destination
from lading.publish.folder import open_destination
from lading.publish.publisher import Ended


def open_destinations(names: Sequence[str], project: Path) -> tuple[dict[str, Destination], dict[str, Ended]]:
    """Open destinations.

    Args:
        names: As :func:`lading.publish.folder.open_destination` takes them; one that is named twice counts once.
        project: The project's folder.

    Returns:
        Those that could be opened, and how it ended for those that could not, each by its name.

    Raises:
        ManifestInvalid: The project has no destination of a name.
        LadingError: There is one name only, and it cannot be opened.
    """
    opened: dict[str, Destination] = {}
    failed: dict[str, Ended] = {}
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        try:
            opened[name] = open_destination(name, project)
        except ManifestInvalid:
            raise
        except LadingError as error:
            if len(wanted) == 1:
                raise
            failed[name] = Ended(destination=name, result=None, error=error)
    return opened, failed
