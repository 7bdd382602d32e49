"""Records of which builds fit a machine, and why."""

from __future__ import annotations

from typing import Literal

from lading.manifest.base import Record

Verdict = Literal["fits", "unknown", "no"]

ReasonCode = Literal[
    # why there is no GPU at all
    "no_driver",
    "driver_not_loaded",
    "driver_mismatch",
    "no_permission",
    "no_device",
    "no_answer",
    "driver_error",
    "gpus_hidden",  # CUDA_VISIBLE_DEVICES hides all
    "mig_without_instance",  # the GPU is divided and has no part that could be used
    # why a build does not run on a GPU
    "driver_too_old",
    "driver_unknown",  # the machine's driver or the build's lowest one is not known
    "arch_unsupported",
    "arch_list_unknown",  # the build does not say, or says something that we do not understand
    "cc_unknown",  # the driver does not say the GPU's compute capability
    "ptx_needs_newer_driver",
    "tegra",  # the GPU is in the processor: its driver does not follow the rules of the others
    "needs_kernel_test",  # it should run, and only a kernel that ran can tell
    # why a build does not run on a system
    "glibc_too_old",
    "glibc_unknown",
    "no_glibc",
    # why a build was chosen
    "best_for_all",
    "best_for_some",
    "cuda_not_offered",
    "forced",
]

RemedyKind = Literal[
    "newer_driver",
    "repair_driver",
    "show_gpus",
    "other_toolkit",
    "other_build",  # one that nobody offers yet
    "other_machine",
    "newer_system",
    "cpu",
]


class Candidate(Record):
    """A build that could be installed.

    Attributes:
        flavor: ``cpu``, or a toolkit's name such as ``cu126``.
        version: The release, or the torch, that it would be; for people.
        cuda: Its CUDA version; none for a CPU build.
        driver: The lowest driver on this operating system; none when it is not known.
        archs: What ``torch.cuda.get_arch_list()`` said in the build; empty when it is not known.
        glibc: The lowest glibc; none when it is not known or does not matter.
    """

    flavor: str
    version: str | None = None
    cuda: str | None = None
    driver: str | None = None
    archs: tuple[str, ...] = ()
    glibc: str | None = None

    @property
    def is_cpu(self) -> bool:
        """Whether it is the CPU build."""
        return self.flavor == "cpu"


class Reason(Record):
    """One reason for or against a build.

    Attributes:
        code: For programs; stable.
        text: For people: a sentence with the values that disagree.
        verdict: What follows from it alone.
        gpu: The GPU that it is about; the whole machine without one.
        have, need: The values that disagree, where there are two.
        capability: The GPU's compute capability.
        archs: What the build has code for.
    """

    code: ReasonCode
    text: str
    verdict: Verdict
    gpu: int | None = None
    have: str | None = None
    need: str | None = None
    capability: str | None = None
    archs: tuple[str, ...] = ()


class Assessment(Record):
    """What is to be said about one build on this machine.

    Attributes:
        flavor, version: Which build.
        cuda: Its CUDA version; none for a CPU build.
        verdict: Whether it runs: on all visible GPUs, or on those in ``covers``.
        covers: Identifiers of the GPUs that it runs on.
        whole: Whether these are all visible ones.
        reasons: Why not, or what is to be known.
    """

    flavor: str
    version: str | None = None
    cuda: str | None = None
    verdict: Verdict
    covers: tuple[str, ...] = ()
    whole: bool = False
    reasons: tuple[Reason, ...] = ()

    def has(self, *codes: ReasonCode) -> bool:
        """Whether one of the reasons is one of these."""
        return any(reason.code in codes for reason in self.reasons)


class Remedy(Record):
    """What would help.

    Attributes:
        kind: For programs; stable.
        text: For people: what to do.
        flavor: The build that would then run.
        driver: The driver that it needs at least.
    """

    kind: RemedyKind
    text: str
    flavor: str | None = None
    driver: str | None = None


class Resolution(Record):
    """Which build a machine gets, and everything that led to it.

    Attributes:
        chosen: The build's flavor; none when nothing fits.
        why: Why this one.
        forced: Somebody named it, whatever fits.
        fits: Whether the chosen build can run here, as far as can be known.
        devices: Identifiers of the GPUs that it will use.
        visible: What ``CUDA_VISIBLE_DEVICES`` has to be for it; none when it need not be set.
        needs_kernel_test: Only a kernel that ran proves it: run the installed program's self-test.
        assessments: Every build, the newest CUDA first, the CPU build last.
        remedies: What would help.
        notes: What else is to be known about the GPUs.
    """

    chosen: str | None
    why: Reason
    forced: bool = False
    fits: Verdict = "no"
    devices: tuple[str, ...] = ()
    visible: str | None = None
    needs_kernel_test: bool = False
    assessments: tuple[Assessment, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, flavor: str) -> Assessment | None:
        """What is said about one build."""
        return next((found for found in self.assessments if found.flavor == flavor), None)

    @property
    def cuda_fits(self) -> bool:
        """Whether some CUDA build runs here."""
        return any(found.verdict == "fits" and found.cuda is not None for found in self.assessments)
