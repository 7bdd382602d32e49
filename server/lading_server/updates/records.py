"""What the endpoints say: the bodies of requests and answers, with examples for the OpenAPI document. No behaviour."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lading_server.updates.control import Choice

PROGRESS_KEY: Literal["cuda-backend"] = "cuda-backend"

ProgressStatus = Literal["idle", "downloading", "extracting", "complete", "error", "cancelled"]
JobKind = Literal["download", "update", "repair", "delete", "rollback"]
Verdict = Literal["fits", "unknown", "no"]
FINAL: frozenset[ProgressStatus] = frozenset({"complete", "error", "cancelled"})


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": [example]})


class Failure(BaseModel):
    """Something that went wrong."""

    model_config = _shown(
        {
            "kind": "SourceUnreachable",
            "what": "https://downloads.example.org/metadata/timestamp.json does not answer.",
            "usually": "There is no network, or the publisher's server is down.",
            "todo": "Try again later.",
            "at": 1750000000,
        }
    )

    kind: str = Field(description="for programs, such as SourceUnreachable, DiskFull, HostUnfit, DigestMismatch")
    what: str = Field(description="what happened")
    usually: str = Field(default="", description="what it usually means; empty when that is not known any more")
    todo: str = Field(default="", description="what to do about it; as above")
    at: int = Field(description="when, seconds since 1970")


class Progress(BaseModel):
    """How far the running change is, or how the last one ended."""

    model_config = _shown(
        {
            "key": PROGRESS_KEY, "job": "download", "status": "downloading", "phase": "fetching",
            "current": 731000000, "total": 1940000000, "progress": 37.7, "speed": 25000000.0, "eta": 48.4,
            "filename": "lading-server 0.1.0 (cu126)", "message": "fetching: 731 MB of 1,940 MB (38%)", "error": None,
            "failure": None,
        }
    )  # fmt: skip

    key: Literal["cuda-backend"] = Field(default=PROGRESS_KEY, description="what the progress is of")
    job: JobKind | None = Field(default=None, description="what is being done; null when nothing was")
    status: ProgressStatus = Field(
        default="idle", description="extracting: files are put together; complete, error, cancelled: it ended so"
    )
    phase: str = Field(default="", description="the step in the client's words, such as fetching")
    current: int = Field(default=0, ge=0, description="bytes of all downloads of this change; never decreases")
    total: int | None = Field(default=None, ge=0, description="of how many; null while that is not known")
    progress: float = Field(default=0.0, ge=0, le=100, description="percent of the whole; never decreases")
    speed: float | None = Field(default=None, description="bytes (or items of the phase) a second")
    eta: float | None = Field(default=None, description="seconds until the phase ends, at that speed")
    filename: str | None = Field(default=None, description="what is being fetched")
    message: str = Field(default="", description="one line for a person")
    error: str | None = Field(default=None, description="what went wrong")
    failure: Failure | None = Field(default=None, description="the same with what to do about it")

    @property
    def final(self) -> bool:
        """Whether nothing follows it."""
        return self.status in FINAL


class Resumable(BaseModel):
    """What an unfinished download has left; the next one goes on with it."""

    model_config = _shown({"version": "0.1.0+cu126-v1-3f9a0c12", "bytes": 731000000})

    version: str | None = Field(description="the version that it would have become, where that is known")
    bytes: int = Field(ge=0, description="what is there already")


class Elsewhere(BaseModel):
    """Another process that changes the data directory just now."""

    model_config = _shown({"pid": 4711, "program": "lading", "doing": "installing", "since": 1750000000})

    pid: int
    program: str
    doing: str
    since: int = Field(description="seconds since 1970")


class Build(BaseModel):
    """A CUDA build that the repository has for this machine's platform."""

    model_config = _shown(
        {"flavor": "cu126", "version": "0.1.0", "libs_version": "cu126-v1", "archive_bytes": 1940000000,
         "disk_bytes": 5100000000, "fits": "fits", "why": "", "chosen": True}
    )  # fmt: skip

    flavor: str
    version: str
    libs_version: str | None
    archive_bytes: int = Field(description="what a first install fetches")
    disk_bytes: int = Field(description="what it takes unpacked")
    fits: Verdict
    why: str = Field(description="what speaks against it, or is to be known; empty when nothing is")
    chosen: bool = Field(description="a download without a flavor takes this one")


class Gpu(BaseModel):
    """A GPU as the driver names it."""

    model_config = _shown({"name": "NVIDIA H200", "capability": "9.0", "memory_bytes": 150754820096})

    name: str
    capability: str | None
    memory_bytes: int


class Host(BaseModel):
    """Whether a CUDA build runs on this machine."""

    model_config = _shown(
        {"fits": "no", "why": "There is no NVIDIA driver.", "driver": None, "cuda": None, "gpus": [],
         "remedies": ["A CUDA build needs a machine with an NVIDIA GPU and its driver."]}
    )  # fmt: skip

    fits: Verdict | None = Field(description="null: the repository was not asked yet what its builds need")
    why: str = Field(description="the reason in words")
    driver: str | None = Field(description="the driver's version")
    cuda: str | None = Field(description="the newest CUDA version that the driver supports")
    gpus: list[Gpu]
    remedies: list[str] = Field(description="what would help")


class Check(BaseModel):
    """What the repository said when it was last asked for an update of what is installed."""

    model_config = _shown(
        {"checked": True, "available": True, "installed": "0.1.0", "newest": "0.2.0", "reason": "available",
         "at": 1750000000, "failure": None}
    )  # fmt: skip

    checked: bool = Field(description="it answered, and what it said was verified")
    available: bool = Field(description="there is something newer")
    installed: str | None
    newest: str | None
    reason: str
    at: int = Field(description="when it was asked, seconds since 1970")
    failure: Failure | None


class CudaStatus(BaseModel):
    """Everything about the CUDA backend."""

    model_config = ConfigDict(frozen=True)

    managed: bool = Field(description="the server knows its data directory; otherwise it can change nothing")
    downloadable: bool = Field(description="it also knows the repository, and whom to trust")
    available: bool = Field(description="a CUDA backend is installed and its executable is there")
    active: bool = Field(description="this very server is the CUDA build")
    binary_path: str | None = Field(
        description="the executable, relative to the data directory",
        examples=["backends/cuda/versions/…/lading-server"],
    )
    installed_version: str | None = Field(description="the app's version", examples=["0.1.0"])
    cuda_libs_version: str | None = Field(description="the libs' label", examples=["cu126-v1"])
    flavor: str | None = Field(description="the toolkit", examples=["cu126"])
    size_bytes: int | None = Field(description="what the backend takes on the disk, older versions included")
    whole: bool | None = Field(description="all of its files are there; null when none is installed")
    previous_version: str | None = Field(description="the one that a roll back goes back to, by its folder's name")
    held: str | None = Field(description="the release that a roll back left; an update waits for a newer one")
    restart_needed: bool = Field(description="another version than this one is in use from the next start on")
    downloading: bool = Field(description="a download, update or repair runs in this server")
    download_progress: Progress = Field(description="how far it is, or how the last one ended")
    resumable: Resumable | None = Field(description="what an unfinished download has left")
    last_failure: Failure | None = Field(description="the last change that failed, until one succeeds")
    busy: Elsewhere | None = Field(description="another process changes the data directory just now")
    check: Check | None = Field(description="what the last look for an update found")
    builds: list[Build] | None = Field(description="what can be downloaded; null until the repository was asked")
    host: Host = Field(description="whether a CUDA build runs on this machine")


class Launcher(BaseModel):
    """The launcher that runs this server."""

    model_config = _shown({"present": True, "phase": "ready", "choice": "auto"})

    present: bool = Field(description="a launcher runs this server; without one nothing can be switched")
    phase: str | None = Field(default=None, description="where it stands, in its own words")
    choice: Choice | None = Field(default=None, description="the backend that was chosen")
    forced: str | None = Field(default=None, description="what leaves the user no choice, such as FORCE_CPU")
    reason: str | None = Field(default=None, description="why another backend than the preferred one runs")
    set_aside: str | None = Field(default=None, description="the CUDA version that is not started any more")
    set_aside_reason: str | None = Field(default=None, description="why; a restart with retry tries it again")


class Wanted(BaseModel):
    """What to download; everything may be left out."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{}, {"flavor": "cu126", "force": True}]},
    )

    flavor: str | None = Field(
        default=None, pattern=r"^[a-z0-9]{1,32}$", description="a toolkit such as cu126; the one that fits, without it"
    )
    force: bool = Field(default=False, description="also what cannot run on this machine; it will start without a GPU")


class Renewal(BaseModel):
    """How to update; everything may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [{}]})

    repair: bool = Field(default=False, description="read every installed file, and fetch what is wrong")


class Restarting(BaseModel):
    """How to restart; everything may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [{}]})

    retry: bool = Field(default=False, description="try again a CUDA version that was set aside")


class Chosen(BaseModel):
    """Which backend is to be used from the next start on."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [{"backend": "cuda"}]}
    )

    backend: Choice = Field(description="auto: CUDA where it works")


class Begun(BaseModel):
    """Work that goes on in the background."""

    model_config = _shown({"message": "the download has begun", "progress_key": PROGRESS_KEY})

    message: str
    progress_key: Literal["cuda-backend"] = PROGRESS_KEY


class Done(BaseModel):
    """Work that is done."""

    model_config = _shown({"message": "the CUDA backend was deleted", "bytes_freed": 5100000000})

    message: str
    bytes_freed: int | None = Field(default=None, description="what the disk got back")
    version: str | None = Field(default=None, description="the version that is in use now, by its folder's name")
