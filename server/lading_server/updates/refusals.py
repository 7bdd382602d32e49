"""Why a request about backends is not done, as problems: the one place where their codes and words stand."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus

from lading.errors import (
    Busy,
    ConfigError,
    DiskFull,
    HostCannot,
    HostUnfit,
    LadingError,
    NotInstalled,
    Unavailable,
    Untrusted,
)
from lading.store.lock import Holder
from lading.store.state import Failure as StoredFailure
from lading_server.problems import ProblemError
from lading_server.updates.control import ControlError, Refused
from lading_server.updates.records import Failure, JobKind

Discreet = Callable[[str], str]

_DOING: dict[JobKind, str] = {
    "download": "a download is in progress",
    "update": "an update is in progress",
    "repair": "a repair is in progress",
    "delete": "the backend is being deleted",
    "rollback": "the version is being changed",
}


def not_managed() -> ProblemError:
    """The server does not know where backends are installed."""
    return ProblemError(
        HTTPStatus.CONFLICT,
        code="not-managed",
        detail="This server was not told where backends are installed (LADING_DATA): start it with `lading run`.",
    )


def no_repository(what: str) -> ProblemError:
    """The server does not know where releases come from."""
    return ProblemError(
        HTTPStatus.CONFLICT,
        code="no-repository",
        detail=f"This server was not told {what}, so that nothing can be downloaded.",
    )


def no_launcher() -> ProblemError:
    """Nobody could restart the server."""
    return ProblemError(
        HTTPStatus.CONFLICT,
        code="no-launcher",
        detail="No launcher runs this server, so that it cannot be switched: start it with `lading run`.",
    )


def running(kind: JobKind) -> ProblemError:
    """This server is at it already."""
    return ProblemError(HTTPStatus.CONFLICT, code="already-running", detail=f"{_DOING[kind].capitalize()} already.")


def busy(holder: Holder) -> ProblemError:
    """Another process is at it."""
    return ProblemError(
        HTTPStatus.CONFLICT,
        code="busy",
        detail=f"The backends are being changed by {holder.describe(time.time())}.",
    )


def installed_already() -> ProblemError:
    """There is nothing to download."""
    return ProblemError(
        HTTPStatus.CONFLICT,
        code="already-installed",
        detail="A CUDA backend is already downloaded. Update or delete it instead.",
    )


def none_installed() -> ProblemError:
    """There is nothing to do it with."""
    return ProblemError(HTTPStatus.NOT_FOUND, code="not-installed", detail="No CUDA backend is installed.")


def active() -> ProblemError:
    """The server would delete itself."""
    return ProblemError(
        HTTPStatus.CONFLICT,
        code="backend-active",
        detail="This server is the CUDA backend itself: switch to the CPU build, then delete it.",
    )


def nothing_to_cancel() -> ProblemError:
    """Nothing that could be stopped runs."""
    return ProblemError(HTTPStatus.CONFLICT, code="nothing-to-cancel", detail="No download is in progress.")


def too_many_followers() -> ProblemError:
    """Every follower costs a connection."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        code="too-many-followers",
        detail="Too many clients follow the progress already.",
        headers={"retry-after": "10"},
    )


def of_launcher(error: ControlError, discreet: Discreet) -> ProblemError:
    """The launcher did not do it."""
    if isinstance(error, Refused):
        return ProblemError(HTTPStatus.CONFLICT, code="launcher-refused", detail=discreet(error.detail))
    return ProblemError(HTTPStatus.BAD_GATEWAY, code="launcher-silent", detail=f"{error}".capitalize() + ".")


def of_client(error: LadingError, discreet: Discreet) -> ProblemError:
    """Lading's client did not do it.

    Args:
        error: Why not.
        discreet: Makes a text one that may be told.
    """
    status, code = _status_of(error)
    told = " ".join(part for part in (error.what, error.usually, error.todo) if part)
    return ProblemError(status, code=code, detail=discreet(told))


def of_system(error: OSError) -> ProblemError:
    """The system refuses something that nobody expected, such as to look into the data directory."""
    why = error.strerror or type(error).__name__
    return ProblemError(
        HTTPStatus.INSUFFICIENT_STORAGE, code="machine-cannot", detail=f"The data directory cannot be used: {why}."
    )


# The first that fits is right: a class stands before the ones that it belongs to.
_STATUS: tuple[tuple[type[LadingError], HTTPStatus, str], ...] = (
    (Busy, HTTPStatus.CONFLICT, "busy"),
    (NotInstalled, HTTPStatus.NOT_FOUND, "not-installed"),
    (HostUnfit, HTTPStatus.CONFLICT, "host-unfit"),
    (DiskFull, HTTPStatus.INSUFFICIENT_STORAGE, "disk-full"),
    (HostCannot, HTTPStatus.INSUFFICIENT_STORAGE, "machine-cannot"),
    (Unavailable, HTTPStatus.BAD_GATEWAY, "repository-failed"),
    (Untrusted, HTTPStatus.BAD_GATEWAY, "repository-failed"),
    (ConfigError, HTTPStatus.CONFLICT, "no-such-release"),
)


def _status_of(error: LadingError) -> tuple[HTTPStatus, str]:
    found = ((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
    return next(found, (HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error"))


def failure_of(error: BaseException, discreet: Discreet) -> Failure:
    """A failed change as it is shown.

    Args:
        error: Why it failed; anything that is no error of Lading's is a bug, and said to be one.
        discreet: Makes a text one that may be told.
    """
    if not isinstance(error, LadingError):
        what = f"The server failed: {type(error).__name__}. Its log has the reason."
        return Failure(kind=type(error).__name__, what=what, at=int(time.time()))
    return Failure(
        kind=error.kind,
        what=discreet(error.what),
        usually=discreet(error.usually),
        todo=discreet(error.todo),
        at=int(time.time()),
    )


def stored_failure(found: StoredFailure | None, discreet: Discreet) -> Failure | None:
    """A failure that the data directory remembers.

    Args:
        found: What it remembers.
        discreet: Makes a text one that may be told.
    """
    return None if found is None else Failure(kind=found.kind, what=discreet(found.what), at=found.at)
