"""The server's side of the launcher's control interface (docs/reference/control.md): three requests on loopback.

What the server sends, each with ``Authorization: Bearer <LADING_CONTROL_TOKEN>``, without ``Origin``, and within
:data:`TIMEOUT` seconds, because the launcher answers at once and does the work afterwards:

=================================================  =====================================================
request                                            answer that is understood
=================================================  =====================================================
``GET {LADING_CONTROL_URL}/status``                200 and the status
``POST {LADING_CONTROL_URL}/restart``,             202 (or 200) and the status: it will be done; with ``retry`` also
``{"retry": false}``                               what was set aside is tried again
``POST {LADING_CONTROL_URL}/choice``,              200 and the status: it is kept, and takes effect with
``{"backend": "auto"}``, ``"cpu"`` or ``"cuda"``   the next restart
=================================================  =====================================================

A body is a JSON object with ``Content-Type: application/json``. Of the status only what :class:`LauncherStatus` names
is read, and everything else ignored, so that a launcher may say more. Any other HTTP status is a refusal: its body is
an RFC 9457 problem (or any JSON object), of which ``detail`` is shown to the user and ``code`` to programs.

The launcher answers a restart *before* it stops this server, and gives a server that is asked to stop a few seconds to
finish the request that asked for it. The token is in no address, message, log line or exception of this module.
"""

from __future__ import annotations

from typing import Literal

import urllib3
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

TIMEOUT = 5.0  # seconds for one answer on loopback
LARGEST_ANSWER = 65_536  # bytes
Choice = Literal["auto", "cpu", "cuda"]


class SetAside(BaseModel):
    """The installed CUDA version that the launcher does not start by itself any more.

    Attributes:
        name: Its folder's name.
        reason: Why.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    reason: str


class LauncherStatus(BaseModel):
    """What the launcher says of itself, as far as the server shows it.

    Attributes:
        phase: Where it stands: ``ready``, ``starting``, ``restarting`` …
        choice: The backend that was chosen.
        forced: What leaves the user no choice.
        reason: Why another backend than the preferred one runs.
        set_aside: What it does not start any more.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    phase: str | None = None
    choice: Choice | None = None
    forced: str | None = None
    reason: str | None = None
    set_aside: SetAside | None = None


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="ignore")

    detail: str = ""
    code: str = ""


class ControlError(Exception):
    """The launcher did not do what it was asked for; the text is for a person and holds no secret."""


class NoAnswer(ControlError):
    """The launcher is not there, or answers with something else than its protocol."""


class Refused(ControlError):
    """The launcher said no.

    Args:
        detail: Why, in words.
        code: Why, for programs; may be empty.
    """

    def __init__(self, detail: str, code: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class Control:
    """Speaks to the launcher that started this server. Blocks for :data:`TIMEOUT` at the most; for threads.

    Args:
        url: Its address.
        token: Its token.
    """

    def __init__(self, url: str, token: SecretStr) -> None:
        self._url = url.rstrip("/")
        self._token = token

    def status(self) -> LauncherStatus:
        """Ask how it is.

        Raises:
            ControlError: It does not say.
        """
        return self._ask("GET", "/status", None)

    def restart(self, *, retry: bool = False) -> LauncherStatus:
        """Ask it to stop this server and to start the chosen backend.

        Args:
            retry: Try again what was set aside.

        Raises:
            ControlError: It does not.
        """
        return self._ask("POST", "/restart", {"retry": retry})

    def choose(self, backend: Choice) -> LauncherStatus:
        """Ask it to keep a choice for the next start.

        Args:
            backend: ``cpu``, ``cuda``, or ``auto`` for CUDA where it works.

        Raises:
            ControlError: It does not.
        """
        return self._ask("POST", "/choice", {"backend": backend})

    def _ask(self, method: str, path: str, body: dict[str, str | bool] | None) -> LauncherStatus:
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        try:
            with urllib3.PoolManager() as pool:  # which knows no proxy: loopback is not for the user's
                answer = pool.request(
                    method, f"{self._url}{path}", json=body, headers=headers, timeout=TIMEOUT, redirect=False,
                    retries=False, preload_content=False,
                )  # fmt: skip
                data = answer.read(LARGEST_ANSWER)
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise NoAnswer(f"the launcher does not answer ({type(error).__name__})") from error
        return _understood(answer.status, data)


def _understood(status: int, data: bytes) -> LauncherStatus:
    try:
        if status in {200, 202}:
            return LauncherStatus.model_validate_json(data)
        refusal = _Refusal.model_validate_json(data)
    except ValidationError as error:
        raise NoAnswer(f"the launcher answers something else than its protocol (HTTP {status})") from error
    raise Refused(refusal.detail or f"the launcher refused (HTTP {status})", refusal.code)
