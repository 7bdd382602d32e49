"""Lading's client as a library: install, update and roll back from a frozen server or a desktop program.

::

    from lading.client import Client

    client = Client(data, source="https://downloads.example.org/releases", root=ROOT, app="my-server")
    if client.check().available:
        client.update(on_progress=print)

:class:`Client` is for threads, :class:`AsyncClient` for asyncio. Errors are those of :mod:`lading.errors`. Nothing of
the side that builds releases is imported, and nothing that draws; docs/reference/client-api.md has everything.
"""

from __future__ import annotations

from lading.client.finished import Finished
from lading.client.sync import Client
from lading.client.tasks import AsyncClient
from lading.progress import ProgressEvent

__all__ = ["AsyncClient", "Client", "Finished", "ProgressEvent"]
