"""``lading verify``: checks with verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lading.cli.shared import EventsOption, JsonOption, Session, VerboseOption, emit, session
from lading.errors import CheckFailed
from lading.manifest.base import read_record
from lading.manifest.release import Release
from lading.report.verification import MARK, print_verification
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


PathArgument = Annotated[
    Path | None, typer.Argument(help="Packed or published assets, a tree, an installed version, or a data directory.")
]
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
        path: PathArgument = None,
        *,
        url: UrlOption = None,
        release: ReleaseOption = None,
        buildinfo: RecordOption = None,
        entry: EntryOption = None,
        also: AlsoOption = None,
        root: RootOption = None,
        digests: DigestsOption = "full",
        require_gpu: GpuOption = False,
        json: JsonOption = False,
        verbose: VerboseOption = 0,
        events: EventsOption = None,
    ) -> None:
        """Check packed assets, a tree, an installed version or a running server, and say what was found.

        Every check passes, fails, or is skipped with its reason. Exit code 70 when one fails.

        Example: `lading verify out/release` or `lading verify --url http://127.0.0.1:8765`
        """
        talk = session(json=json, verbose=verbose, events=events)
        wanted = read_record(Release, release.read_bytes(), origin=str(release)) if release is not None else None
        wish = _Wish(talk=talk, release=wanted, digests=digests, require_gpu=require_gpu, also=also or ())
        wish = replace(wish, root=root.read_bytes() if root is not None else None)
        if (path is None) == (url is None):
            raise typer.BadParameter("give either a path or --url")
        if path is not None:
            reports = list(_reports(wish, path, entry=entry, buildinfo=buildinfo))
        else:
            reports = [wish.server(str(url))]
        good = all(report.passed for report in reports)
        result = {
            "passed": good,
            "verifications": [report.model_dump(mode="json", by_alias=True) for report in reports],
        }
        emit(talk, result, lambda console: _draw(reports, console))
        if not good:
            raise typer.Exit(CheckFailed.exit_code)
