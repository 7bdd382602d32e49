"""``manifests/app.yaml``: which program is frozen, and from what."""

from __future__ import annotations

from typing import Annotated, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, Field, model_validator

from lading.manifest.base import Name, Platform, Record, RelPath, Size, Variant, disagrees


def _is_range(value: str) -> str:
    try:
        SpecifierSet(value)
    except InvalidSpecifier as error:
        message = f"not a range of versions: {value!r}; write it as '>=3.11,<3.14'"
        raise ValueError(message) from error
    return value


PythonRange = Annotated[str, AfterValidator(_is_range), Field(description="a range of versions such as '>=3.11,<3.14'")]
ModuleName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$", description="a dotted module name such as lading_server.entry"),
]


class Reasoned(Record):
    """A module with the reason why it is listed.

    Attributes:
        module: Its dotted name; ``name.*`` is everything below it.
        reason: Why.
    """

    module: str = Field(pattern=r"^[A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)*(?:\.\*)?$")
    reason: str = Field(min_length=10)


class AllowedMissing(Reasoned):
    """A module that the program imports and can do without.

    Attributes:
        variant: Only in builds of this variant; in all builds when none.
    """

    variant: Variant | None = None


class Data(Record):
    """Files of the app's own that are not Python modules.

    Attributes:
        source: A file or folder of the project.
        target: The folder inside the frozen tree that it is copied into.
    """

    source: RelPath
    target: RelPath


class Executables(Record):
    """The frozen executable's name by variant; the CUDA one carries ``cuda`` in its name, by which it knows itself.

    Attributes:
        cpu: Name of the CPU build's executable, without ``cuda`` in it.
        cuda: Name of the CUDA build's executable.
    """

    cpu: Name
    cuda: Name

    @model_validator(mode="after")
    def _tell_apart(self) -> Executables:
        if "cuda" not in self.cuda:
            raise disagrees("cuda", f"the CUDA executable's name must contain 'cuda'; found {self.cuda!r}")
        if "cuda" in self.cpu:
            raise disagrees("cpu", f"the CPU executable's name must not contain 'cuda'; found {self.cpu!r}")
        return self


class Budgets(Record):
    """Largest allowed sizes; a build beyond one fails and names the files that grew.

    Attributes:
        core: The core archive, packed with the release profile.
        core_unpacked: The core's files.
        libs: The libs archive, packed with the release profile (a toolkit's manifest).
        libs_unpacked: The libs' files (a toolkit's manifest).
    """

    core: Size | None = None
    core_unpacked: Size | None = None
    libs: Size | None = None
    libs_unpacked: Size | None = None


class App(Record):
    """The program.

    Attributes:
        schema: Names this format.
        name: First part of every asset's name.
        version_from: A Python file with a line ``__version__ = "…"``: the only place where the version is written.
        entry: The script that is frozen.
        import_roots: Folders from which the program's own packages are imported.
        packages: The program's own packages; their files are owned by the app.
        executable: Names of the frozen executable.
        python: Versions of Python that may freeze it.
        spec: The PyInstaller spec.
        hooks: A folder of PyInstaller hooks.
        library_hooks: Further such folders, of libraries that are imported from an import root and not installed.
        requirements: Direct requirements (a ``.in`` file), the closure of which may be in the tree.
        freeze_lock: Hash lock of PyInstaller itself.
        default_toolkit: The toolkit of a CUDA build unless another is named.
        cpu_locks: Hash lock of the CPU build, by platform.
        modules: How Python modules are stored: ``loose`` files, or inside the executable ``stored`` or ``compressed``
            (docs/explanation/loose-modules.md has the measurements behind the default).
        hidden_imports: Modules that are imported by name only.
        required_modules: Modules that must be in the tree.
        excluded_modules: Modules that must not get in.
        allowed_missing: Modules that the program imports but can do without.
        data: The app's data files.
        features: Optional features that this program is built with, written into its releases.
        budgets: Largest sizes of the core.
        channel: The channel that a release goes to unless another is named.
        patches: From how many earlier releases of the channel patches are made.
    """

    schema_: Literal["lading/app/1"] = Field(alias="schema")
    name: Name
    version_from: RelPath
    entry: RelPath
    import_roots: tuple[RelPath, ...] = Field(min_length=1)
    packages: tuple[ModuleName, ...] = Field(min_length=1)
    executable: Executables
    python: PythonRange = ">=3.11,<3.14"
    spec: RelPath = "build/server.spec"
    hooks: RelPath = "build/hooks"
    library_hooks: tuple[RelPath, ...] = ()
    requirements: RelPath
    freeze_lock: RelPath
    default_toolkit: Name | None = None
    cpu_locks: dict[Platform, RelPath] = Field(default_factory=dict)
    modules: Literal["loose", "stored", "compressed"] = "loose"
    hidden_imports: tuple[ModuleName, ...] = ()
    required_modules: tuple[ModuleName, ...] = ()
    excluded_modules: tuple[Reasoned, ...] = ()
    allowed_missing: tuple[AllowedMissing, ...] = ()
    data: tuple[Data, ...] = ()
    features: tuple[Name, ...] = ()
    budgets: Budgets = Budgets()
    channel: Name = "stable"
    patches: int = Field(default=3, ge=0, le=20)
