"""What a release consists of: the signed record from which a client knows every byte it may run.

Two records are published. A *component* describes one archive (core or libs) and is complete by itself, so that a libs
label can be published once and referred to by many releases. A *release* binds an exact core to an exact libs and says
what the host must have.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lading.manifest.base import Component, Label, Name, Platform, Record, RelPath, Sha256, Variant, Version


class Asset(Record):
    """One published file.

    Attributes:
        name: File name at the destination.
        size: Bytes.
        sha256: Digest of the bytes.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=200)
    size: int = Field(ge=0)
    sha256: Sha256

    @property
    def checksum_line(self) -> bytes:
        """What the ``.sha256`` file beside the asset holds: one line that ``sha256sum -c`` understands."""
        return f"{self.sha256}  {self.name}\n".encode()


class TorchBuild(Record):
    """The torch that the tree holds, as it says itself.

    Attributes:
        version: ``torch.__version__``, such as 2.7.1+cu126.
        cuda: ``torch.version.cuda``, such as 12.6.
        archs: ``torch.cuda.get_arch_list()``; sm_XY is machine code, compute_XY is PTX.
        cudnn: cuDNN's version number, such as 90501.
        nccl: NCCL's version, such as 2.26.2.
    """

    version: str
    cuda: str
    archs: tuple[str, ...]
    cudnn: int | None = None
    nccl: str | None = None


class ComponentRecord(Record):
    """One archive: its content and its assets.

    Attributes:
        app: The app's name.
        component: core or libs.
        version: The app's version for core, the label for libs.
        flavor: ``cpu``, or the toolkit's name.
        platform: Operating system and processor.
        tree: Digest of the component's tree (:func:`lading.manifest.tree.tree_digest`).
        files: Number of entries.
        unpacked: Bytes of all files, unpacked.
        size: Bytes of the whole archive (of all volumes together).
        sha256: Digest of the whole archive.
        index: The compressed index.
        volumes: The archive in one or more pieces, in order; their concatenation is the archive.
        profile: The compression profile it was packed with.
        torch: For libs: the torch build inside. A core may be installed only over libs with exactly this build.
    """

    schema_: Literal["lading/component/1"] = Field(default="lading/component/1", alias="schema")
    app: Name
    component: Component
    version: Version | Label
    flavor: Name
    platform: Platform
    tree: Sha256
    files: int = Field(ge=1)
    unpacked: int = Field(ge=0)
    size: int = Field(ge=1)
    sha256: Sha256
    index: Asset
    volumes: tuple[Asset, ...] = Field(min_length=1)
    profile: Literal["fast", "release"]
    torch: TorchBuild | None = None

    @model_validator(mode="after")
    def _volumes_add_up(self) -> ComponentRecord:
        if sum(volume.size for volume in self.volumes) != self.size:
            message = f"the volumes have {sum(v.size for v in self.volumes)} bytes, the archive {self.size}"
            raise ValueError(message)
        return self


class PatchRecord(Record):
    """A direct way from one older version of a component to this one.

    Attributes:
        component: core or libs.
        from_version: The older version or label.
        from_tree: The older component's tree digest; the patch applies to nothing else.
        asset: The patch file.
    """

    component: Component
    from_version: Version | Label
    from_tree: Sha256
    asset: Asset


class Requirements(Record):
    """What the host must have.

    Attributes:
        driver: Lowest NVIDIA driver by operating system, or none for a CPU release.
        archs: Architectures that the build has code for; empty for a CPU release.
        glibc: Lowest glibc, such as 2.28, computed from the tree's symbol versions (Linux).
        disk: Bytes needed to install beside an older version that shares nothing.
    """

    driver: str | None = None
    archs: tuple[str, ...] = ()
    glibc: str | None = None
    disk: int = Field(ge=0)


class Provenance(Record):
    """What the release was made from.

    Attributes:
        commit: The source commit, or ``unknown`` outside a repository; ``+dirty`` is appended for uncommitted changes.
        epoch: ``SOURCE_DATE_EPOCH`` of the build, seconds.
        locks: Digest of each requirements lock by its path; empty when the environment was reused.
        python: The interpreter's version.
        pyinstaller: PyInstaller's version.
        torch: Torch's version, when there is one.
        zstd: libzstd's version, on which the archives' bytes depend.
        lading: Lading's version.
    """

    commit: str
    epoch: int
    locks: dict[str, Sha256] = Field(default_factory=dict)
    python: str
    pyinstaller: str
    torch: str | None = None
    zstd: str
    lading: str


class Release(Record):
    """A release of an app for one platform and variant: ``release.json``, a TUF target.

    Attributes:
        app, version, channel, platform: Which release this is.
        flavor: ``cpu``, or the toolkit's name.
        entry: The executable, relative to the installed tree.
        tree: Digest of the whole tree, core and libs together.
        features: Names of optional features built in.
        components: core first, then libs when there is one.
        patches: Ways from older versions.
        requirements: What the host must have.
        provenance: What it was made from.
    """

    schema_: Literal["lading/release/1"] = Field(default="lading/release/1", alias="schema")
    app: Name
    version: Version
    channel: Name = "stable"
    platform: Platform
    flavor: Name
    entry: RelPath
    tree: Sha256
    features: tuple[str, ...] = ()
    components: tuple[ComponentRecord, ...] = Field(min_length=1, max_length=2)
    patches: tuple[PatchRecord, ...] = ()
    requirements: Requirements
    provenance: Provenance

    @property
    def variant(self) -> Variant:
        """``cpu`` or ``cuda``."""
        return "cpu" if self.flavor == "cpu" else "cuda"

    @model_validator(mode="after")
    def _belongs_together(self) -> Release:
        names = [component.component for component in self.components]
        expected = ["core", "libs"] if self.variant == "cuda" else ["core"]
        if names != expected:
            message = f"a {self.variant} release has the components {expected}; found {names}"
            raise ValueError(message)
        for component in self.components:
            theirs = (component.app, component.platform, component.flavor)
            if theirs != (self.app, self.platform, self.flavor):
                message = f"component {component.component} is for {' '.join(theirs)}"
                raise ValueError(message)
        return self

    def component(self, name: Component) -> ComponentRecord | None:
        """The component of that name, or none."""
        return next((component for component in self.components if component.component == name), None)
