"""``buildinfo.json`` beside a frozen tree: who owns each file, every version, every digest."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lading.manifest.base import Name, Platform, Record, RelPath, Variant, Version
from lading.manifest.release import Provenance, TorchBuild
from lading.manifest.tree import TreeEntry

OWNER_APP = "app"  # the program's own modules and data
OWNER_PYTHON = "python"  # the interpreter and its standard library
OWNER_PYINSTALLER = "pyinstaller"  # bootloader and run-time hooks
OWNER_SYSTEM = "system"  # shared libraries of the build machine's operating system


class OwnedEntry(TreeEntry):
    """A file of the tree and the distribution that it came from.

    Attributes:
        owner: A distribution's normalised name, or ``app``, ``python``, ``pyinstaller``, ``system``.
        via: How the owner was found: the build's table of contents, or a name pattern.
    """

    owner: str
    via: Literal["contents", "pattern"] = "contents"


class DroppedFile(Record):
    """A file that an exclusion kept out of the tree."""

    path: RelPath
    size: int
    owner: str
    reason: str


class BuildInfo(Record):
    """What was frozen, from what, and what belongs to whom.

    Attributes:
        app, version, platform, variant, entry: Which build this is; ``entry`` is the executable in the tree.
        toolkit: The toolkit's name for a CUDA build.
        modules: How Python modules are stored.
        files: All entries of the tree with their owners, in path order.
        dropped: What exclusions kept out.
        distributions: Version of every distribution that owns a file of the tree.
        torch: The torch build, when there is one.
        glibc: Lowest glibc that the tree's ELF files ask for (Linux).
        provenance: Commit, locks, interpreter and tool versions.
    """

    schema_: Literal["lading/buildinfo/1"] = Field(default="lading/buildinfo/1", alias="schema")
    app: Name
    version: Version
    platform: Platform
    variant: Variant
    entry: RelPath
    toolkit: Name | None = None
    modules: Literal["loose", "stored", "compressed"]
    features: tuple[str, ...] = ()
    files: tuple[OwnedEntry, ...] = Field(min_length=1)
    dropped: tuple[DroppedFile, ...] = ()
    distributions: dict[str, str]
    torch: TorchBuild | None = None
    glibc: str | None = None
    provenance: Provenance
