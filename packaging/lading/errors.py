"""Every failure that Lading reports, each with its own exit code.

::

    LadingError                     what the caller can do
    ├── ConfigError           1x    correct what was written, then run again
    │   ├── ManifestInvalid   10
    │   ├── LockMissing       11
    │   ├── LockMismatch      12
    │   ├── WrongInterpreter  13
    │   └── ToolMissing       14
    ├── Unavailable           2x    wait or choose another source, then run again
    │   ├── SourceUnreachable 20
    │   └── Busy              21
    ├── Untrusted             3x    never install it; fetch it again from the publisher
    │   ├── DigestMismatch    30
    │   ├── FormatInvalid     31
    │   ├── SignatureInvalid  32
    │   └── MetadataExpired   33
    ├── HostCannot            4x    change this machine (disk, permission, driver)
    │   ├── DiskFull          40
    │   ├── AccessDenied      41
    │   ├── NotInstalled      42
    │   ├── ServerUnhealthy   43
    │   └── PortTaken         44
    ├── BuildBroken           5x    correct the program or the manifests and build again
    │   ├── TreeInvalid       50    not a onedir tree, empty, unreadable
    │   ├── NoNvidiaFiles     51
    │   ├── NameForbidden     52
    │   ├── LinkEscapes       53
    │   ├── FileChanged       54
    │   ├── LabelTaken        55
    │   ├── BudgetExceeded    56
    │   ├── ImportMissing     57
    │   ├── WrongTorch        58
    │   ├── LinkageBroken     59
    │   ├── FrozenBroken      60
    │   ├── StrangerInTree    61
    │   ├── FreezeFailed      62
    │   └── ReleaseTaken      63
    ├── CheckFailed           70    read the report: a verification said no
    └── Interrupted           130   run again: it goes on where it stopped

2 is the command line's own (usage), 1 is a bug in Lading.
Misuse of an API is ``TypeError`` or ``RuntimeError``, never one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

if TYPE_CHECKING:
    from lading.manifest.problem import Problem

_LISTED = 15  # lines of a list in one message; the rest is counted


def listed(lines: Sequence[str]) -> str:
    """Format a list for a message: each on a line of its own, the first of them when there are many."""
    more = f"\n  … and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return "".join(f"\n  {line}" for line in lines[:_LISTED]) + more


class LadingError(Exception):
    """A failure that a user can meet.

    Args:
        what: What happened, with the values that disagree.
        usually: What it usually means.
        todo: What to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, usually: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.usually = usually
        self.todo = todo

    @override
    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.usually, self.todo) if part)

    @property
    def kind(self) -> str:
        """The class name, the stable identifier in JSON output."""
        return type(self).__name__


class ConfigError(LadingError):
    """What was written in a manifest, a lock or an option is wrong."""

    exit_code = 19


class ManifestInvalid(ConfigError):
    """A manifest breaks its schema or contradicts another manifest.

    Args:
        what, usually, todo: As for every failure.
        problems: Each thing that is wrong with its place, for programs (``what`` tells them to people).
    """

    exit_code = 10

    def __init__(self, what: str, *, usually: str = "", todo: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(what, usually=usually, todo=todo)
        self.problems = tuple(problems)


class LockMissing(ConfigError):
    """A requirements lock that a manifest names does not exist."""

    exit_code = 11


class LockMismatch(ConfigError):
    """A lock and a manifest ask for different things."""

    exit_code = 12


class WrongInterpreter(ConfigError):
    """This Python cannot make the build that the manifest asks for."""

    exit_code = 13


class ToolMissing(ConfigError):
    """A program or package that this step needs is not installed."""

    exit_code = 14


class Unavailable(LadingError):
    """The other side does not answer, or not now; trying again may help."""

    exit_code = 29


class SourceUnreachable(Unavailable):
    """No mirror gave what was asked for."""

    exit_code = 20


class Busy(Unavailable):
    """Another process holds the lock."""

    exit_code = 21


class Untrusted(LadingError):
    """What we received is not what the publisher signed; it is never used."""

    exit_code = 39


class DigestMismatch(Untrusted):
    """Bytes and their digest disagree."""

    exit_code = 30


class FormatInvalid(Untrusted):
    """A record or an archive breaks its format, or has a version we do not know."""

    exit_code = 31


class SignatureInvalid(Untrusted):
    """Metadata is not signed by enough of the trusted keys, or goes backwards."""

    exit_code = 32


class MetadataExpired(Untrusted):
    """The repository's metadata is past its expiry; an update is refused, a launch is not."""

    exit_code = 33


class HostCannot(LadingError):
    """This machine cannot do it."""

    exit_code = 49


class DiskFull(HostCannot):
    """There is not enough room."""

    exit_code = 40


class AccessDenied(HostCannot):
    """The operating system refuses access to a file or folder."""

    exit_code = 41


class NotInstalled(HostCannot):
    """There is no installed version where one is needed."""

    exit_code = 42


class ServerUnhealthy(HostCannot):
    """The started server died, hung or reported that it is not well."""

    exit_code = 43


class PortTaken(HostCannot):
    """The wanted port belongs to somebody else."""

    exit_code = 44


class BuildBroken(LadingError):
    """What was built must not be released."""

    exit_code = 69


class TreeInvalid(BuildBroken):
    """The folder is not a onedir tree, is empty, or cannot be read."""

    exit_code = 50


class NoNvidiaFiles(BuildBroken):
    """A CUDA build without a single file of the toolkit."""

    exit_code = 51


class NameForbidden(BuildBroken):
    """A file name that some supported system cannot have."""

    exit_code = 52


class LinkEscapes(BuildBroken):
    """A symbolic link that leaves the tree or leads nowhere."""

    exit_code = 53


class FileChanged(BuildBroken):
    """A file changed while it was being read."""

    exit_code = 54


class LabelTaken(BuildBroken):
    """A published label already names other content."""

    exit_code = 55


class BudgetExceeded(BuildBroken):
    """A component is larger than its manifest allows."""

    exit_code = 56


class ImportMissing(BuildBroken):
    """A module that the program needs did not get into the tree."""

    exit_code = 57


class WrongTorch(BuildBroken):
    """Torch has no CUDA, or another CUDA than the toolkit says."""

    exit_code = 58


class LinkageBroken(BuildBroken):
    """A shared library needs another one that is neither in the tree nor on the system list."""

    exit_code = 59


class FrozenBroken(BuildBroken):
    """The frozen server does not start or fails its self-test."""

    exit_code = 60


class StrangerInTree(BuildBroken):
    """A distribution that nothing asked for got into the tree."""

    exit_code = 61


class FreezeFailed(BuildBroken):
    """PyInstaller itself failed."""

    exit_code = 62


class ReleaseTaken(BuildBroken):
    """A published version already names other content."""

    exit_code = 63


class CheckFailed(LadingError):
    """A verification found something wrong; its report says what."""

    exit_code = 70


class Interrupted(LadingError):
    """The user or the system asked to stop; nothing half-made is left."""

    exit_code = 130
