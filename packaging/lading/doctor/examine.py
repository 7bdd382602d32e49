"""The examination: what is known put together, and what follows from it.

Changes nothing and keeps nothing. What goes wrong on the way is a finding, so that the rest is still told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter

from lading.doctor.folder import examine_folder
from lading.doctor.network import Answered, Asked, ask_source, network_variables
from lading.doctor.record import DoctorReport, FolderFacts, OfferedBy, Outcome
from lading.errors import AccessDenied, ConfigError, FormatInvalid, HostUnfit
from lading.host.choice import Candidate, Resolution
from lading.host.hints import hints
from lading.host.record import HostFacts
from lading.host.resolve import resolve
from lading.manifest.base import Platform
from lading.manifest.release import Release
from lading.manifest.toolkit import Toolkit
from lading.store.choice import candidate_of
from lading.store.home import Home
from lading.store.installed import VARIANTS, current_version, installed_versions
from lading.store.origin import read_origin
from lading.store.status import status

ONLY_CPU = 3  # the exit code that says so


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to examine.

    Attributes:
        host: The machine.
        data: Its data directory.
        app, channel, version: Which releases.
        sources: A repository, or none.
        root: A trusted root; what is installed knows one otherwise.
        toolkits: A project's toolkits, for a machine without a repository.
        replayed: A report from another machine, whose machine and builds take the place of this one's.
        flavor: A flavor that somebody wants.
        devices: GPUs to be used, written as in ``CUDA_VISIBLE_DEVICES``.
    """

    host: HostFacts
    data: Path
    app: str
    channel: str = "stable"
    version: str | None = None
    sources: Sequence[str] = ()
    root: bytes | None = None
    toolkits: Sequence[Toolkit] = ()
    replayed: DoctorReport | None = None
    simulated: bool = False
    flavor: str | None = None
    devices: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Offer:
    by: OfferedBy
    candidates: tuple[Candidate, ...] = ()
    releases: tuple[Release, ...] = ()


def examine(question: Question) -> DoctorReport:
    """Examine a machine.

    Args:
        question: What to look at.

    Returns:
        Everything that was found.

    Raises:
        ConfigError: The named flavor is none of the builds, or no releases are made for such a machine.
    """
    answered = _answered(question)
    offer = _offer(question, answered)
    found = _resolution(question, offer)
    folder = examine_folder(question.data)
    if found is not None and found.chosen is not None:
        chosen = [release for release in offer.releases if release.flavor == found.chosen]
        folder = folder.model_copy(update={"needed": chosen[0].requirements.disk if chosen else None})
    outcome, code = conclude(question, found, answered, folder)
    return DoctorReport(
        lading=distribution_version("lading"),
        host=question.host,
        simulated=question.simulated,
        hints=hints(question.host),
        offered_by=offer.by,
        candidates=offer.candidates,
        resolution=found,
        folder=folder,
        network=network_variables(os.environ),
        source=answered.facts if answered else None,
        installed=status(question.data),
        outcome=outcome,
        exit_code=code,
    )


def conclude(
    question: Question, found: Resolution | None, answered: Answered | None, folder: FolderFacts
) -> tuple[Outcome, int]:
    """The outcome and its exit code, by what matters most.

    Args:
        question: What was wanted.
        found: Which build fits.
        answered: What the repository answered.
        folder: The data directory.
    """
    trouble = answered.facts.trouble if answered is not None else None
    if trouble is not None:
        return "trouble", trouble.exit_code
    if not folder.writable and not question.simulated:
        return "trouble", AccessDenied.exit_code
    if found is None:
        return ("cuda", 0) if question.host.has_gpu else ("cpu", ONLY_CPU)
    if question.flavor is not None:
        return ("named", 0) if found.fits == "fits" else ("nothing", HostUnfit.exit_code)
    if found.chosen is None:
        return "nothing", HostUnfit.exit_code
    return ("cpu", ONLY_CPU) if found.chosen == "cpu" else ("cuda", 0)


def _answered(question: Question) -> Answered | None:
    if not question.sources:
        return None
    platform = _platform(question.host.platform)
    asked = Asked(
        sources=question.sources,
        root=question.root or _known_root(question.data),
        app=question.app,
        channel=question.channel,
        platform=platform,
        version=question.version,
    )
    return ask_source(asked, question.data)


def _platform(tag: str) -> Platform:
    if tag not in get_args(Platform):
        raise ConfigError(
            f"No releases are made for {tag}, only for {', '.join(get_args(Platform))}.",
            usually="A system that CUDA is not offered for, or a 32-bit Python.",
            todo="Use Linux or Windows on a 64-bit machine.",
        )
    platform: Platform = TypeAdapter(Platform).validate_python(tag)
    return platform


def _known_root(data: Path) -> bytes | None:
    origins = (read_origin(Home(data, variant).origin) for variant in VARIANTS)
    return next((origin.root_bytes for origin in origins if origin is not None and origin.root), None)


def _offer(question: Question, answered: Answered | None) -> _Offer:
    if answered is not None and answered.releases:
        found = tuple(candidate_of(release) for release in answered.releases)
        return _Offer(by="source", candidates=found, releases=answered.releases)
    if question.replayed is not None and question.replayed.candidates:
        return _Offer(by="report", candidates=question.replayed.candidates)
    if question.toolkits:
        cpu = Candidate(flavor="cpu")
        system = question.host.platform.partition("-")[0]
        return _Offer(by="toolkits", candidates=(*(candidate_from(one, system) for one in question.toolkits), cpu))
    releases = tuple(_installed_releases(question.data))
    if releases:
        return _Offer(by="installed", candidates=tuple(map(candidate_of, releases)), releases=releases)
    return _Offer(by="nobody")


def candidate_from(toolkit: Toolkit, system: str) -> Candidate:
    """What is known of a toolkit before a build: its manifest.

    Args:
        toolkit: The toolkit.
        system: ``linux`` or ``windows``.
    """
    line = toolkit.torch.rpartition(".")[0]
    offer = next(offer for offer in toolkit.offers if line in offer.torch)
    archs = tuple(f"sm_{arch.replace('.', '')}" for arch in offer.archs)
    ptx = (f"compute_{offer.ptx.replace('.', '')}",) if offer.ptx else ()
    return Candidate(
        flavor=toolkit.name,
        version=f"torch {toolkit.torch}",
        cuda=toolkit.cuda,
        driver=toolkit.driver.windows if system == "windows" else toolkit.driver.linux,
        archs=(*archs, *ptx),
    )


def _installed_releases(data: Path) -> Iterable[Release]:
    """One installed release of each flavor, the one in use before others."""
    found: dict[str, Release] = {}
    for home in (Home(data, variant) for variant in VARIANTS):
        current = current_version(home)
        for version in (*([current] if current else []), *installed_versions(home)):
            try:
                release = version.release()
            except FormatInvalid:
                continue  # told as a damaged version
            found.setdefault(release.flavor, release)
    return found.values()


def _resolution(question: Question, offer: _Offer) -> Resolution | None:
    flavors = [candidate.flavor for candidate in offer.candidates]
    if not flavors:
        return None
    if question.flavor is not None and question.flavor not in flavors:
        raise ConfigError(
            f"There is no flavor {question.flavor}; there are: {', '.join(flavors)}.",
            usually="It is misspelt, or not published for this platform.",
            todo="Name one of these with --flavor, or none.",
        )
    return resolve(question.host, offer.candidates, forced=question.flavor, devices=question.devices)
