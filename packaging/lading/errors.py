"""Every failure that Lading reports, each with its own exit code.

::

    LadingError                     what the caller can do
    ├── ConfigError           1x    correct what was written, then run again
    │   ├── ManifestInvalid   10
    │   ├── LockMissing       11
    │   ├── LockMismatch      12
    │   ├── WrongInterpreter  13
    │   ├── ToolMissing       14
    │   ├── KeyUnusable       15
    │   ├── KeyMissing        16
    │   ├── CredentialsRefused 17   for publishing
    │   └── PermissionMissing 18    for publishing
    ├── Unavailable           2x    wait or choose another source, then run again
    │   ├── SourceUnreachable 20
    │   ├── Busy              21
    │   ├── DestinationMissing 22   no such repository or bucket
    │   ├── RateLimited       23
    │   ├── DestinationUnreachable 24
    │   ├── NotOffered        25    withdrawn, or not rolled out to this machine yet
    │   ├── PublishIncomplete 26    some destinations have the release, others not yet
    │   └── LauncherAbsent    27    start the launcher
    ├── Untrusted             3x    never install it; fetch it again from the publisher
    │   ├── DigestMismatch    30
    │   ├── FormatInvalid     31
    │   │   └── FormatTooNew  37    update Lading
    │   ├── SignatureInvalid  32
    │   ├── MetadataExpired   33
    │   ├── RollbackDetected  34
    │   ├── RootInvalid       35
    │   ├── MetadataMixed     36
    │   └── LengthExceeded    38
    ├── HostCannot            4x    change this machine (disk, permission, driver)
    │   ├── DiskFull          40
    │   ├── AccessDenied      41
    │   ├── NotInstalled      42
    │   ├── ServerUnhealthy   43
    │   ├── PortTaken         44
    │   ├── HostUnfit         45
    │   ├── DiskFailing       46
    │   └── PathTooLong       47
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
    │   ├── ReleaseTaken      63
    │   └── AssetTooLarge     64
    ├── DestinationRefuses    8x    correct the account or the destination, then publish again
    │   ├── CredentialsMissing 80
    │   ├── ClockSkewed       81
    │   ├── ObjectTaken       82
    │   └── DestinationFull   83
    ├── CheckFailed           70    read the report: a verification said no
    ├── ExpiresSoon           71    sign the repository's metadata anew
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
        """The name of its class in this module, the stable identifier in JSON output."""
        return next(known.__name__ for known in type(self).__mro__ if known.__module__ == __name__)


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


class KeyUnusable(ConfigError):
    """A signing key cannot be opened, or is not the one that it should be."""

    exit_code = 15


class KeyMissing(ConfigError):
    """Fewer signing keys are at hand than a role needs."""

    exit_code = 16


class CredentialsRefused(ConfigError):
    """A host that releases are published to does not know who we are."""

    exit_code = 17


class PermissionMissing(ConfigError):
    """A host that releases are published to knows us, and does not let us."""

    exit_code = 18


class Unavailable(LadingError):
    """The other side does not answer, or not now; trying again may help."""

    exit_code = 29


class SourceUnreachable(Unavailable):
    """No mirror gave what was asked for."""

    exit_code = 20


class Busy(Unavailable):
    """Another process holds the lock."""

    exit_code = 21


class DestinationMissing(Unavailable):
    """There is no such repository or bucket, or it is hidden from us."""

    exit_code = 22


class RateLimited(Unavailable):
    """A host wants no more requests for longer than anybody waits."""

    exit_code = 23


class DestinationUnreachable(Unavailable):
    """Where releases are published does not answer, or fails again and again."""

    exit_code = 24


class NotOffered(Unavailable):
    """The publisher has withdrawn what would fit, or does not offer it to this machine yet."""

    exit_code = 25


class PublishIncomplete(Unavailable):
    """Of several destinations some do not have the release yet; each says why."""

    exit_code = 26


class LauncherAbsent(Unavailable):
    """No launcher runs for a data directory, or the one that did does not answer."""

    exit_code = 27


class Untrusted(LadingError):
    """What we received is not what the publisher signed; it is never used."""

    exit_code = 39


class DigestMismatch(Untrusted):
    """Bytes and their digest disagree."""

    exit_code = 30


class FormatInvalid(Untrusted):
    """A record or an archive breaks its format."""

    exit_code = 31


class FormatTooNew(FormatInvalid):
    """A record or metadata of a version that this Lading does not know yet."""

    exit_code = 37


class SignatureInvalid(Untrusted):
    """Metadata is not signed by enough of the trusted keys."""

    exit_code = 32


class MetadataExpired(Untrusted):
    """The repository's metadata is past its expiry; an update is refused, a launch is not."""

    exit_code = 33


class RollbackDetected(Untrusted):
    """The repository's metadata is older than what was seen of it before."""

    exit_code = 34


class RootInvalid(Untrusted):
    """Root metadata, given or offered as the next one, cannot be trusted."""

    exit_code = 35


class MetadataMixed(Untrusted):
    """Files that were each signed, but do not belong to one state of the repository."""

    exit_code = 36


class LengthExceeded(Untrusted):
    """A source sends more bytes than a file may have."""

    exit_code = 38


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


class HostUnfit(HostCannot):
    """No build that is offered, or not the one that was named, can run on this machine."""

    exit_code = 45


class DiskFailing(HostCannot):
    """A disk or file system reports that it could not do what it must."""

    exit_code = 46


class PathTooLong(HostCannot):
    """A file would have a longer path than this system takes."""

    exit_code = 47


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


class AssetTooLarge(BuildBroken):
    """A file is larger than the host takes, or there are too many of them."""

    exit_code = 64


class DestinationRefuses(LadingError):
    """Where releases are published answers, and refuses; trying again alone does not help."""

    exit_code = 89


class CredentialsMissing(DestinationRefuses):
    """No credentials for a destination are at hand, or only a part of them."""

    exit_code = 80


class ClockSkewed(DestinationRefuses):
    """This machine's clock is too far from the host's for signed requests."""

    exit_code = 81


class ObjectTaken(DestinationRefuses):
    """A name that is used only once already has other content at the destination."""

    exit_code = 82


class DestinationFull(DestinationRefuses):
    """The account has no room left for what is to be published."""

    exit_code = 83


class CheckFailed(LadingError):
    """A verification found something wrong; its report says what."""

    exit_code = 70


class ExpiresSoon(LadingError):
    """Signatures are still good, and not for long."""

    exit_code = 71


class Interrupted(LadingError):
    """The user or the system asked to stop; nothing half-made is left."""

    exit_code = 130
