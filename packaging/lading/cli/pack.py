"""``lading pack``: archives, indexes, checksums and a release manifest from a onedir tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lading.cli.shared import EventsOption, JsonOption, VerboseOption, emit, session
from lading.errors import ManifestInvalid
from lading.freeze.freeze import BUILDINFO, read_buildinfo
from lading.host.platform import this_platform
from lading.manifest.app import Budgets
from lading.manifest.base import parse_size
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.project import APP_FILE, Project, load_project
from lading.manifest.toolkit import Toolkit
from lading.pack.adopt import adopt
from lading.pack.pack import VOLUME_LIMIT, PackOptions, PackResult, pack
from lading.pack.profiles import Profile
from lading.progress import Progress


def parse_volume_limit(text: str | None) -> int:
    """The largest asset in bytes from ``--volume-limit``.

    Raises:
        ManifestInvalid: It is no size.
    """
    if text is None:
        return VOLUME_LIMIT
    try:
        size = parse_size(text)
    except ValueError as error:
        raise ManifestInvalid(f"--volume-limit: {error}", todo="Write it as '500 MB'.") from error
    assert isinstance(size, int)
    return size


def as_json(result: PackResult) -> dict[str, object]:
    """A packed release for ``--json``."""
    return {
        "release": str(result.release_file),
        "components": [
            {
                "component": packed.record.component,
                "version": packed.record.version,
                "size": packed.record.size,
                "unpacked": packed.record.unpacked,
                "volumes": [volume.name for volume in packed.record.volumes],
                "folder": str(packed.folder),
                "reused": packed.reused,
            }
            for packed in result.components
        ],
        "patches": [patch.asset.model_dump() for patch in result.release.patches],
    }


def draw(result: PackResult, console: Console) -> None:
    """A packed release for a person."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("component", "version", "files", "unpacked", "packed", ""):
        table.add_column(name, justify="left" if name in {"component", "version", ""} else "right")
    for packed in result.components:
        record = packed.record
        table.add_row(
            record.component,
            record.version,
            f"{record.files:,}",
            f"{record.unpacked / 1e6:,.1f} MB",
            f"{record.size / 1e6:,.1f} MB",
            "reused" if packed.reused else f"{len(record.volumes)} asset(s)",
        )
    for patch in result.release.patches:
        table.add_row("patch", f"from {patch.from_version}", "", "", f"{patch.asset.size / 1e3:,.1f} kB", "")
    console.print(table)
    console.print(str(result.release_file), highlight=False, soft_wrap=True)


def _toolkit(project: Project | None, name: str | None) -> Toolkit | None:
    """The toolkit of that name, from the project's manifests."""
    if name is None:
        return None
    if project is None:
        raise ManifestInvalid(
            f"Nothing says what the toolkit {name} consists of: there is no {APP_FILE} here.",
            usually="The command was not run in the project's folder.",
            todo="Name the project's folder with --project.",
        )
    return project.toolkit(name)


def _described(
    tree: Path,
    buildinfo: Path | None,
    *,
    project: Project | None,
    toolkit: Toolkit | None,
    cpu: bool,
    names: tuple[str | None, str | None, str | None],
    progress: Progress,
) -> BuildInfo:
    """The tree's build information: given, beside the tree, or found out."""
    file = buildinfo or tree.absolute().parent / BUILDINFO
    name, version, entry = names
    if buildinfo is not None or (file.is_file() and name is None):
        return read_buildinfo(file)
    name, version = name or (project.app.name if project else None), version or (project.version if project else None)
    if name is None or version is None:
        raise ManifestInvalid(
            f"Nothing says what {tree.name} is: there is no {BUILDINFO} beside it and no project here.",
            usually="The tree was made without Lading.",
            todo="Give --app and --version, or --project.",
        )
    if toolkit is None and not cpu:
        raise ManifestInvalid(
            f"Nothing says whether {tree.name} is a build for CUDA: there is no {BUILDINFO} beside it.",
            usually="The tree was made without Lading.",
            todo="Give --toolkit with the CUDA toolkit that it was made with, or --cpu.",
        )
    return adopt(
        tree, app=name, version=version, platform=this_platform(), toolkit=toolkit, entry=entry, progress=progress
    )


def pack_command(
    tree: Annotated[Path, typer.Argument(help="The onedir tree.")],
    buildinfo: Annotated[Path | None, typer.Option(help="Its build information; beside the tree without it.")] = None,
    project: Annotated[Path, typer.Option("--project", help="The project's folder.")] = Path(),
    toolkit: Annotated[str | None, typer.Option(help="The toolkit; the one that was frozen without it.")] = None,
    *,
    cpu: Annotated[bool, typer.Option("--cpu", help="A build without CUDA.")] = False,
    out: Annotated[Path | None, typer.Option(help="Gets the assets; out/release of the project.")] = None,
    profile: Annotated[Profile, typer.Option(help="fast: quick; release: small.")] = "release",
    volume_limit: Annotated[str | None, typer.Option(help="Largest asset, such as '500 MB'.")] = None,
    channel: Annotated[str | None, typer.Option(help="The channel; the app's own without it.")] = None,
    published: Annotated[list[Path] | None, typer.Option(help="Folder with published assets.")] = None,
    previous: Annotated[list[Path] | None, typer.Option(help="Folder with earlier releases, for patches.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads, 110 MB each; one a processor without it, 300 MB.")
    ] = None,
    native_names: Annotated[bool, typer.Option(help="Allow names that other systems cannot have.")] = False,
    app: Annotated[str | None, typer.Option(help="The app's name, for a tree made without Lading.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version, likewise.")] = None,
    entry: Annotated[str | None, typer.Option(help="Its executable, likewise.")] = None,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
    events: EventsOption = None,
) -> None:
    """Pack a onedir tree: core and libs archives, indexes, checksums, patches, release manifest.

    Example: `lading pack out/tree/cu126/lading-server-cuda --profile release`
    """
    talk = session(json=json, verbose=verbose, events=events)
    loaded = load_project(project) if (project / APP_FILE).exists() else None
    if cpu and toolkit:
        raise typer.BadParameter("--cpu and --toolkit exclude each other")
    asked = _toolkit(loaded, toolkit)
    info = _described(
        tree,
        buildinfo,
        project=loaded,
        toolkit=asked,
        cpu=cpu,
        names=(app, version, entry),
        progress=talk.progress,
    )
    wanted = None if cpu else asked or _toolkit(loaded, info.toolkit)
    options = PackOptions(
        profile=profile,
        channel=channel or (loaded.app.channel if loaded else "stable"),
        volume_limit=parse_volume_limit(volume_limit),
        threads=threads,
        published=tuple(published or ()),
        previous=tuple(previous or ()),
        patches=loaded.app.patches if loaded else 3,
        portable_names=not native_names,
    )
    result = pack(
        tree,
        info,
        wanted,
        out or (loaded.path("out/release") if loaded else Path("out/release")),
        options=options,
        progress=talk.progress,
        budgets=loaded.app.budgets if loaded else Budgets(),
    )
    emit(talk, as_json(result), lambda console: draw(result, console))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pack")(pack_command)
