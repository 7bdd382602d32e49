"""The last thing that a running install says: what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from lading.manifest.base import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Finished(Generic[R]):
    """The end of a change.

    Attributes:
        result: What was done, when all went well.
        error: What went wrong otherwise: an error of :mod:`lading.errors`, or a bug.
    """

    result: R | None = None
    error: BaseException | None = None

    def unwrap(self) -> R:
        """Give the result, or raise the error.

        Raises:
            BaseException: The error.
        """
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise RuntimeError("neither a result nor an error")
        return self.result
