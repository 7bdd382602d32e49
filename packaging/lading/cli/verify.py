"""``lading verify``: checks with verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lading.cli.shared import EventsOption, JsonOption, Session, VerboseOption, emit, session
from lading.errors import CheckFailed
from lading.manifest.base import read_record
from lading.manifest.project import APP_FILE, load_project
from lading.manifest.public_address import find_address
from lading.manifest.release import Release
from lading.report.summary_markdown import append_markdown
from lading.report.verification import MARK, print_verification, verification_markdown
from lading.store.home import Home
from lading.store.installed import VARIANTS, Installed, current_version, installed_versions
from lading.verify import Check, Verification, verify_packed, verify_server, verify_tree
from lading.verify.context import Digests
from lading.verify.target import PackedTarget, TreeTarget, find_packed, find_tree

_DEPTH = 4  # folders from a data directory to a version's: backends/cuda/versions/<name>


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What every kind of subject is verified with."""

    talk: Session
    release: Release | None
    digests: Digests
    require_gpu: bool
    also: Sequence[Path]
    root: bytes | None = None

    def watch(self, check: Check) -> None:
        if self.talk.verbose:
            self.talk.progress.note(f"{MARK[check.status]} {check.name}: {check.reason}")

    def packed(self, target: PackedTarget) -> Verification:
        return verify_packed(
            target.folder, target.record, also=self.also, root=self.root, progress=self.talk.progress, watch=self.watch
        )

    def installed(self, version: Installed) -> Verification:
        return verify_tree(
            version.tree, entry=version.marker.entry, release=version.release(), indexes=version.indexes().values(),
            digests=self.digests, require_gpu=self.require_gpu, progress=self.talk.progress, watch=self.watch,
        )  # fmt: skip

    def tree(self, target: TreeTarget) -> Verification:
        return verify_tree(
            target.tree, entry=target.entry, release=self.release, buildinfo=target.buildinfo,
            digests=self.digests, require_gpu=self.require_gpu, progress=self.talk.progress, watch=self.watch,
        )  # fmt: skip

    def server(self, url: str) -> Verification:
        return verify_server(url, release=self.release, require_gpu=self.require_gpu, watch=self.watch)


def _installed(path: Path) -> tuple[Installed, ...]:
    """The installed versions that a path means: those in use under a data directory, or one version's folder."""
    homes = [Home(path, variant) for variant in VARIANTS]
    found = tuple(version for home in homes if (version := current_version(home)) is not None)
    if found or len(path.parents) < _DEPTH:
        return found
    above = (Home(path.parents[_DEPTH - 1], variant) for variant in VARIANTS)
    return tuple(version for home in above for version in installed_versions(home) if version.folder == path)


def _reports(wish: _Wish, path: Path, *, entry: str | None, buildinfo: Path | None) -> Iterator[Verification]:
    if packed := find_packed(path):
        yield from map(wish.packed, packed)
    elif versions := _installed(path.absolute()):
        yield from map(wish.installed, versions)
    else:
        yield wish.tree(find_tree(path, entry=entry, buildinfo=buildinfo))


def _draw(reports: Sequence[Verification], console: Console) -> None:
    for number, report in enumerate(reports):
        if number:
            console.print()
        print_verification(console, report)


def _draw_published(reports: Sequence[Verification], console: Console) -> None:
    _draw(reports, console)
    console.print()
    for report in reports:
        word = "[green]sound[/]  " if report.passed else "[bold red]UNSOUND[/]"
        console.print(word, end=" ", highlight=False)
        console.print(report.subject.where, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class _Published:
    """The options of ``--published``."""

    app: str | None
    channel: str
    version: str | None
    installs: bool
    wait: float
    project: Path

    @property
    def app_name(self) -> str:
        """The app that was named, else the project's."""
        if self.app is None and not (self.project / APP_FILE).exists():
            raise typer.BadParameter("there is no project here: name the app", param_hint="--app")
        return self.app or load_project(self.project).app.name


def _published(wish: _Wish, names: Sequence[str], options: _Published) -> tuple[Verification, ...]:
    # What is verified elsewhere needs none of the code that publishes and fetches.
    from lading.verify.published import verify_published  # noqa: PLC0415 (see above)
    from lading.verify.published_checks import Mirror, PublishedWish  # noqa: PLC0415 (see above)

    if wish.root is None:
        raise typer.BadParameter("say what you trust: the root metadata that clients have", param_hint="--root")
    if not names:
        raise typer.BadParameter("name at least one destination, address or folder")
    mirrors = [Mirror(name=name, address=find_address(name, options.project)) for name in dict.fromkeys(names)]
    wanted = PublishedWish(
        root=wish.root, app=options.app_name, channel=options.channel,
        version=options.version.removeprefix("v") if options.version else None,
        installs=options.installs, wait=options.wait * 60,
    )  # fmt: skip
    return verify_published(mirrors, wanted, progress=wish.talk.progress, watch=wish.watch)


def _result(reports: Sequence[Verification]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "passed": all(report.passed for report in reports),
        "verifications": [report.model_dump(mode="json", by_alias=True) for report in reports],
    }
    published = [report for report in reports if report.subject.kind == "published"]
    if published:
        result["sound"] = [report.subject.where for report in published if report.passed]
        result["unsound"] = [report.subject.where for report in published if not report.passed]
    return result


PathsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH...",
        help="Packed or published assets, a tree, an installed version, or a data directory; with --published the "
        "destinations.",
    ),
]
PublishedOption = Annotated[
    bool,
    typer.Option(
        "--published",
        help="Fetch back what was published to these destinations of the manifests, addresses or folders.",
    ),
]
AppOption = Annotated[str | None, typer.Option("--app", help="With --published: the app; the project's without it.")]
ChannelOption = Annotated[str, typer.Option("--channel", help="With --published: the channel.")]
VersionOption = Annotated[
    str | None, typer.Option("--version", help="With --published: a version; the channel's newest without it.")
]
InstallOption = Annotated[
    bool, typer.Option("--install/--no-install", help="With --published: install from each, and delete it again.")
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait", min=0, metavar="MINUTES", help="With --published: for so long, caches may still have what was before."
    ),
]
ProjectOption = Annotated[Path, typer.Option("--project", help="The project's folder.")]
UrlOption = Annotated[str | None, typer.Option("--url", metavar="URL", help="A running server instead.")]
ReleaseOption = Annotated[Path | None, typer.Option("--release", metavar="FILE", help="The release that it should be.")]
RecordOption = Annotated[Path | None, typer.Option("--buildinfo", metavar="FILE", help="A frozen tree's build record.")]
EntryOption = Annotated[str | None, typer.Option("--entry", metavar="NAME", help="The executable of a tree.")]
AlsoOption = Annotated[
    list[Path] | None,
    typer.Option("--also", metavar="DIR", help="A further folder with assets, such as published libs."),
]
RootOption = Annotated[
    Path | None, typer.Option("--root", metavar="FILE", help="The root metadata that a published release must follow.")
]
DigestsOption = Annotated[Digests, typer.Option("--digests", help="Of which files of a tree the bytes are compared.")]
GpuOption = Annotated[bool, typer.Option("--require-gpu", help="Fail where nothing could run on a GPU.")]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def verify(
        paths: PathsArgument = None,
        *,
        published: PublishedOption = False,
        url: UrlOption = None,
        release: ReleaseOption = None,
        buildinfo: RecordOption = None,
        entry: EntryOption = None,
        also: AlsoOption = None,
        root: RootOption = None,
        digests: DigestsOption = "full",
        require_gpu: GpuOption = False,
        app_name: AppOption = None,
        channel: ChannelOption = "stable",
        version: VersionOption = None,
        install: InstallOption = True,
        wait: WaitOption = 0.0,
        project: ProjectOption = Path(),
        json: JsonOption = False,
        verbose: VerboseOption = 0,
        events: EventsOption = None,
    ) -> None:
        """Check packed assets, a tree, an installed version or a running server, and say what was found.

        Every check passes, fails, or is skipped with its reason. Exit code 70 when one fails.

        With --published, every destination is read as clients read it: signatures from --root on, every byte of one
        version, what its server can do, and a real install. It says which of them are sound.

        Example: `lading verify out/release` or `lading verify --published github r2 --root root.json`
        """
        talk = session(json=json, verbose=verbose, events=events)
        wanted = read_record(Release, release.read_bytes(), origin=str(release)) if release is not None else None
        wish = _Wish(talk=talk, release=wanted, digests=digests, require_gpu=require_gpu, also=also or ())
        wish = replace(wish, root=root.read_bytes() if root is not None else None)
        draw = _draw
        if published:
            options = _Published(
                app=app_name, channel=channel, version=version, installs=install, wait=wait, project=project
            )
            reports, draw = list(_published(wish, paths or (), options)), _draw_published
        elif len(paths or ()) != (0 if url is not None else 1):
            raise typer.BadParameter("give either a path or --url")
        elif url is not None:
            reports = [wish.server(url)]
        else:
            reports = list(_reports(wish, Path((paths or [""])[0]), entry=entry, buildinfo=buildinfo))
        append_markdown("".join(f"{verification_markdown(report)}\n" for report in reports))
        emit(talk, _result(reports), lambda console: draw(reports, console))
        if not all(report.passed for report in reports):
            raise typer.Exit(CheckFailed.exit_code)
