"""What an examination finds. Its JSON can be sent to whoever helps, and examined again there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lading.host.choice import Candidate, Resolution
from lading.host.hints import Hint
from lading.host.record import HostFacts
from lading.manifest.base import Record
from lading.store.status import Status

Outcome = Literal["cuda", "named", "cpu", "nothing", "trouble"]
OfferedBy = Literal["source", "toolkits", "installed", "report", "nobody"]


class Trouble(Record):
    """An error of :mod:`lading.errors` as a finding.

    Attributes:
        kind: Its class.
        exit_code: What the program ends with because of it.
        what, usually, todo: Its message.
    """

    kind: str
    exit_code: int
    what: str
    usually: str = ""
    todo: str = ""


class FolderFacts(Record):
    """What the file system of the data directory can do; unknown where it could not be tried.

    Attributes:
        path: The directory.
        exists: Whether it is there.
        writable: Whether this user may write there, or make it.
        free: Free bytes.
        needed: Bytes that the chosen release takes, when there is one.
        hard_links: Versions share files: an update takes little room.
        symlinks: Trees with symbolic links can be kept.
        case_sensitive: Names that differ only in case are two files.
        problem: Why it cannot be used.
    """

    path: str
    exists: bool
    writable: bool
    free: int | None = None
    needed: int | None = None
    hard_links: bool | None = None
    symlinks: bool | None = None
    case_sensitive: bool | None = None
    problem: str | None = None

    @property
    def has_room(self) -> bool:
        """Whether the chosen release fits, as far as both are known."""
        return self.free is None or self.needed is None or self.free >= self.needed


class SourceFacts(Record):
    """What a repository answers.

    Attributes:
        address: Without user and password.
        proxy: The proxy on the way to it.
        reachable: It answered.
        verified: Its metadata follows from a trusted root; without a root only its answer is looked at.
        seconds, requests, bytes_received: What asking it took.
        expires: Until when its newest signature is good, in UTC.
        clock: Whether this machine's clock can be right: a release from the future says no.
        trouble: What is wrong with it.
    """

    address: str
    proxy: str | None = None
    reachable: bool
    verified: bool = False
    seconds: float
    requests: int = 0
    bytes_received: int = 0
    expires: str | None = None
    clock: Literal["plausible", "behind"] | None = None
    trouble: Trouble | None = None


class DoctorReport(Record):
    """Everything that was found.

    Attributes:
        lading: Lading's version.
        host: The machine, or the one whose report is examined again.
        simulated: The machine is another one's.
        hints: What explains it.
        offered_by: Where the builds are known from.
        candidates: The builds.
        resolution: Which fits; none when there are no builds.
        folder: The data directory.
        network: Variables that decide how the network is used, without passwords.
        source: The repository, when one was named.
        installed: What is installed.
        outcome: ``cuda`` or the ``named`` flavor can run, only ``cpu`` can, ``nothing`` can; ``trouble`` when the
            repository or the data directory cannot be used.
        exit_code: What the program ends with.
    """

    schema_: Literal["lading/doctor/1"] = Field(default="lading/doctor/1", alias="schema")
    lading: str
    host: HostFacts
    simulated: bool = False
    hints: tuple[Hint, ...] = ()
    offered_by: OfferedBy
    candidates: tuple[Candidate, ...] = ()
    resolution: Resolution | None = None
    folder: FolderFacts
    network: dict[str, str] = Field(default_factory=dict)
    source: SourceFacts | None = None
    installed: Status
    outcome: Outcome
    exit_code: int
