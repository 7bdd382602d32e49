"""``lading channel``: what the channels of a published repository offer, and to whom."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.cli.sign import KeysOption, PassphraseOption, passphrases
from lading.manifest.base import Platform
from lading.manifest.channel import EVERYBODY, Channel, ChannelEntry
from lading.publish.channels import (
    Change,
    ChannelsReport,
    change_channels,
    preview_change,
    show_channels,
    upload_channels,
)
from lading.publish.destination import Destination
from lading.publish.folder import open_destination
from lading.publish.listing import Which, promoted, restored, rolled_out, withdrawn
from lading.publish.together import Signing
from lading.sign.keyring import open_keys

if TYPE_CHECKING:
    from rich.console import Console

ToOption = Annotated[
    list[str] | None,
    typer.Option("--to", help="A destination of the manifests, or a folder's path; repeat for more; local without it."),
]
AppOption = Annotated[str | None, typer.Option("--app", help="The app; the only one there without it.")]
ProjectOption = Annotated[Path, typer.Option("--project", help="The project's folder.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would change; sign and write nothing.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The release's version.")]
PlatformOption = Annotated[Platform | None, typer.Option("--platform", help="Only the release for this platform.")]
FlavorOption = Annotated[str | None, typer.Option("--flavor", help="Only this flavor, such as cpu or cu126.")]
InOption = Annotated[
    list[str] | None, typer.Option("--channel", help="Only in this channel; in all that list it without this option.")
]
PercentOption = Annotated[
    int | None,
    typer.Option(
        "--rollout", min=0, max=EVERYBODY, help="Offer it to so many percent of the channel's machines at first."
    ),
]


def opened(to: list[str] | None, project: Path) -> tuple[Destination, ...]:
    """The destinations that were named, each once."""
    return tuple(open_destination(name, project) for name in dict.fromkeys(to or ["local"]))


def _state(entry: ChannelEntry) -> str:
    """How an entry is offered, in a few words."""
    if entry.withdrawn is not None:
        day = time.strftime("%Y-%m-%d", time.gmtime(entry.withdrawn.at))
        gone = "" if entry.target else ", files deleted"
        return f"withdrawn on {day}{gone}: {entry.withdrawn.reason}"
    return "to everybody" if entry.rollout is None else f"to {entry.rollout} %"


def _lines(channel: Channel) -> list[str]:
    """One line for releases of a version that are offered alike."""
    alike: dict[tuple[str, str], list[str]] = {}
    for entry in channel.releases:
        alike.setdefault((entry.version, _state(entry)), []).append(f"{entry.flavor} {entry.platform}")
    return [f"  {version}  {state}\n    {', '.join(which)}" for (version, state), which in alike.items()]


def _draw(report: ChannelsReport, console: Console, *, dry: bool = False, change: bool = True) -> None:
    for channel in report.channels:
        changed = " (would change)" if dry else " (changed)"
        mark = changed if channel.channel in report.changed else ""
        console.print(f"[bold]{channel.channel}[/] of {report.app}{mark}", highlight=False)
        for line in _lines(channel) or ["  nothing"]:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    for written in report.destinations if change and not dry else ():
        said = f"{len(written.files)} signed files written" if written.files else "nothing new to sign"
        console.print(f"{written.destination}: {said}", highlight=False, markup=False, soft_wrap=True)
    if change and dry:
        console.print("Nothing was changed.", style="dim")
    if change and report.development:
        console.print("Signed with development keys: good for this machine and for tests.", style="yellow")


def _run(
    change: Change,
    *,
    to: list[str] | None,
    app: str | None,
    keys: Path,
    passphrase_file: Path | None,
    project: Path,
    dry_run: bool,
    json: bool,
    verbose: int,
) -> None:
    talk = session(json=json, verbose=verbose)
    destinations = opened(to, project)
    if dry_run:
        report = preview_change(destinations, change, app)
    else:
        signing = Signing(keys=open_keys(keys, passphrases(passphrase_file)))
        report = change_channels(destinations, change, signing, app)
    emit(talk, report, lambda console: _draw(report, console, dry=dry_run))


def _show(
    *,
    to: ToOption = None,
    app: AppOption = None,
    project: ProjectOption = Path(),
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say what each channel offers, and to whom. Needs no keys.

    Example: `lading channel show --to github`
    """
    talk = session(json=json, verbose=verbose)
    report = show_channels(opened(to, project), app)
    emit(talk, report, lambda console: _draw(report, console, change=False))


def _promote(
    version: VersionArgument,
    *,
    into: Annotated[str, typer.Option("--into", help="The channel that gets it; a new one where there is none.")],
    source: Annotated[
        str | None, typer.Option("--from", help="The channel that has it; any other without this option.")
    ] = None,
    rollout: PercentOption = None,
    flavor: FlavorOption = None,
    platform: PlatformOption = None,
    to: ToOption = None,
    app: AppOption = None,
    keys: KeysOption = Path("out/keys"),
    passphrase_file: PassphraseOption = None,
    project: ProjectOption = Path(),
    dry_run: DryOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """List a published release in another channel. No archive is sent.

    Promoting it again changes nothing: a release that is there already stays as far rolled out as it is.

    Example: `lading channel promote 0.4.0 --from beta --into stable --rollout 10 --to github`
    """
    which = Which(version=version, platform=platform, flavor=flavor, channels=(source,) if source else ())
    _run(
        partial(promoted, which=which, into=into, rollout=rollout),
        to=to, app=app, keys=keys, passphrase_file=passphrase_file, project=project, dry_run=dry_run, json=json,
        verbose=verbose,
    )  # fmt: skip


def _withdraw(
    version: VersionArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, in one line, for those who have it.")],
    channel: InOption = None,
    flavor: FlavorOption = None,
    platform: PlatformOption = None,
    to: ToOption = None,
    app: AppOption = None,
    keys: KeysOption = Path("out/keys"),
    passphrase_file: PassphraseOption = None,
    project: ProjectOption = Path(),
    dry_run: DryOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Withdraw a bad release: nobody gets it any more, and who has it goes to the one before with the next update.

    Example: `lading channel withdraw 0.4.0 --reason "It loses uploads larger than 2 GB." --to github`
    """
    which = Which(version=version, platform=platform, flavor=flavor, channels=tuple(channel or ()))
    _run(
        partial(withdrawn, which=which, reason=" ".join(reason.split()), now=int(time.time())),
        to=to, app=app, keys=keys, passphrase_file=passphrase_file, project=project, dry_run=dry_run, json=json,
        verbose=verbose,
    )  # fmt: skip


def _restore(
    version: VersionArgument,
    *,
    channel: InOption = None,
    flavor: FlavorOption = None,
    platform: PlatformOption = None,
    to: ToOption = None,
    app: AppOption = None,
    keys: KeysOption = Path("out/keys"),
    passphrase_file: PassphraseOption = None,
    project: ProjectOption = Path(),
    dry_run: DryOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Offer a release again that was withdrawn by mistake, as far as it was rolled out before.

    Example: `lading channel restore 0.4.0 --to github`
    """
    which = Which(version=version, platform=platform, flavor=flavor, channels=tuple(channel or ()))
    _run(
        partial(restored, which=which),
        to=to, app=app, keys=keys, passphrase_file=passphrase_file, project=project, dry_run=dry_run, json=json,
        verbose=verbose,
    )  # fmt: skip


def _rollout(
    version: VersionArgument,
    percent: Annotated[int, typer.Argument(min=0, max=EVERYBODY, help="Of the channel's machines.")],
    *,
    channel: Annotated[str, typer.Option("--channel", help="In this channel.")] = "stable",
    flavor: FlavorOption = None,
    platform: PlatformOption = None,
    to: ToOption = None,
    app: AppOption = None,
    keys: KeysOption = Path("out/keys"),
    passphrase_file: PassphraseOption = None,
    project: ProjectOption = Path(),
    dry_run: DryOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Offer a release to so many percent of the machines: 100 for all of them, 0 for no new one.

    Each machine draws by itself and always the same, so a higher percentage adds machines to those that have it.

    Example: `lading channel rollout 0.4.0 50 --to github`
    """
    which = Which(version=version, platform=platform, flavor=flavor, channels=(channel,))
    _run(
        partial(rolled_out, which=which, percent=percent),
        to=to, app=app, keys=keys, passphrase_file=passphrase_file, project=project, dry_run=dry_run, json=json,
        verbose=verbose,
    )  # fmt: skip


def _upload(
    signed: Annotated[Path, typer.Argument(help="A copy of the metadata and targets, changed where the keys are.")],
    *,
    to: ToOption = None,
    app: AppOption = None,
    project: ProjectOption = Path(),
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Bring a change to a destination that was signed on another machine. Needs no keys.

    There, change a folder that holds a copy of the repository's `metadata` and `targets`, with `--to FOLDER/`.

    Example: `lading channel upload out/signed --to github`
    """
    talk = session(json=json, verbose=verbose)
    for destination in opened(to, project):
        report = upload_channels(destination, signed, app)
        emit(talk, report, partial(_draw, report))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    channel = typer.Typer(no_args_is_help=True, help="Promote, withdraw and roll out published releases.")
    channel.command("show")(_show)
    channel.command("promote")(_promote)
    channel.command("withdraw")(_withdraw)
    channel.command("restore")(_restore)
    channel.command("rollout")(_rollout)
    channel.command("upload")(_upload)
    app.add_typer(channel, name="channel")
