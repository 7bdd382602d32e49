"""``manifests/toolkits/<name>.yaml``: one CUDA toolkit, what of it is shipped and which host it needs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lading.manifest.app import Budgets
from lading.manifest.base import Label, Platform, Record, RelPath, disagrees
from lading.manifest.pattern import matches, path_pattern


def _compiles(pattern: str) -> str:
    path_pattern(pattern)
    return pattern


PathPattern = Annotated[
    str, AfterValidator(_compiles), Field(min_length=1, description="a glob over a relative path; ** is any folders")
]

DriverVersion = Annotated[
    str,
    Field(pattern=r"^[0-9]+(?:\.[0-9]+){0,2}$", description='a driver version in quotes, such as "525.60.13" or "580"'),
]
Capability = Annotated[
    str, Field(pattern=r"^[0-9]+\.[0-9]$", description='a compute capability in quotes, such as "8.6"')
]
TorchLine = Annotated[
    str, Field(pattern=r"^[0-9]+\.[0-9]+$", description='a torch release line in quotes, such as "2.10"')
]


class Drivers(Record):
    """The lowest driver by operating system under which this toolkit runs (CUDA minor-version compatibility).

    Attributes:
        linux: On Linux.
        windows: On Windows.
    """

    linux: DriverVersion
    windows: DriverVersion


class LibsRule(Record):
    """Which files make up libs.

    Attributes:
        distributions: Name patterns of installed distributions, all of whose files go to libs.
        patterns: File name patterns (case-insensitive) of NVIDIA's shared libraries, for files without an owner or
            owned by another distribution that carries them.
        folders: Folder names whose contents go to libs, for files without an owner (a tree made by somebody else).
        stubs: Small Python files with NVIDIA's names that stay in core, for files without an owner.
    """

    distributions: tuple[str, ...] = Field(min_length=1)
    patterns: tuple[str, ...] = ()
    folders: tuple[str, ...] = ("nvidia", "torch", "triton", "functorch", "torchgen", "cusparselt")
    stubs: tuple[str, ...] = ("nccl.py", "cudart.py", "nccl.pyc", "cudart.pyc")


class Exclusion(Record):
    """Files that are not shipped.

    Attributes:
        pattern: A glob over the path inside the tree's payload; ``**`` matches any number of folders
            (:mod:`lading.manifest.pattern`).
        reason: Why the product does not need them at run time.
    """

    pattern: PathPattern
    reason: str = Field(min_length=10)


class TorchOffer(Record):
    """The torch release lines that have a build for this toolkit, and the architectures those have code for.

    Attributes:
        torch: Release lines such as ``2.7``.
        archs: Compute capabilities with machine code, such as ``8.6``.
        ptx: Compute capability with PTX, when there is one.
    """

    torch: tuple[TorchLine, ...] = Field(min_length=1)
    archs: tuple[Capability, ...] = Field(min_length=1)
    ptx: Capability | None = None


class Toolkit(Record):
    """A toolkit.

    Attributes:
        schema: Names this format.
        name: Such as cu126; also the local version label of torch's wheels.
        label: The libs label that a build with this manifest makes; it names one content for ever.
        cuda: ``torch.version.cuda`` of its builds.
        torch: The torch version that the label is made with.
        driver: Lowest drivers.
        offers: Torch builds that exist for it (planning only: a release carries what its build itself says).
        locks: Hash lock of the server with this toolkit, by platform.
        libs: Which files make up libs.
        exclude: Files that are not shipped, with reasons.
        budgets: Largest sizes.
        notes: What a maintainer should know, shown by ``lading plan``.
    """

    schema_: Literal["lading/toolkit/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^cu[0-9]{3}$", description="cu and three digits, such as cu126")
    label: Label
    cuda: str = Field(pattern=r"^[0-9]+\.[0-9]+$", description='a CUDA release in quotes, such as "12.6"')
    torch: str = Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$", description='a torch release in quotes, such as "2.7.1"')
    driver: Drivers
    offers: tuple[TorchOffer, ...] = Field(min_length=1)
    locks: dict[Platform, RelPath] = Field(default_factory=dict)
    libs: LibsRule
    exclude: tuple[Exclusion, ...] = ()
    budgets: Budgets = Budgets()
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Toolkit:
        if self.name != "cu" + self.cuda.replace(".", ""):
            raise disagrees("cuda", f"toolkit {self.name} cannot be CUDA {self.cuda}")
        if not self.label.startswith(f"{self.name}-"):
            raise disagrees("label", f"the label of {self.name} must begin with '{self.name}-'; found {self.label!r}")
        line = self.torch.rpartition(".")[0]
        lines = [known for offer in self.offers for known in offer.torch]
        if line not in lines:
            there_are = ", ".join(lines)
            raise disagrees("torch", f"no build of torch {self.torch} exists for {self.name}; 'offers' has {there_are}")
        return self

    def exclusion(self, path: str) -> Exclusion | None:
        """The first rule that keeps a file out of the tree, or none.

        Args:
            path: Relative to the tree's payload folder, with forward slashes.
        """
        return next((rule for rule in self.exclude if matches(rule.pattern, path)), None)
