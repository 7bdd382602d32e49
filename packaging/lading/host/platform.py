"""The platform of this machine, as releases name it."""

from __future__ import annotations

from typing import get_args

from pydantic import TypeAdapter

from lading.errors import WrongInterpreter
from lading.host.facts import platform_tag
from lading.manifest.base import Platform


def this_platform() -> Platform:
    """The platform that is built and installed here.

    Raises:
        WrongInterpreter: Releases are not made for this system or processor.
    """
    tag = platform_tag()
    if tag not in get_args(Platform):
        raise WrongInterpreter(
            f"This Python runs on {tag}; releases are made for {', '.join(get_args(Platform))}.",
            usually="A 32-bit Python, or a system that CUDA is not offered for.",
            todo="Use a 64-bit Python on Linux or Windows.",
        )
    platform: Platform = TypeAdapter(Platform).validate_python(tag)
    return platform
