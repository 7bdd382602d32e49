"""``lading keys``: make signing keys, change them, see who signs what until when, keep signatures fresh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lading.atomic import write_atomic
from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.cli.sign import PassphraseOption, passphrases
from lading.errors import ConfigError, ExpiresSoon, MetadataExpired
from lading.fetch.address import open_source
from lading.fetch.source import fetch_small
from lading.manifest.layout import METADATA
from lading.publish.folder import open_destination
from lading.publish.refresh import DAILY, RefreshResult, refresh
from lading.sign.ceremony import Elsewhere, KeyPlan, RootChange, Rotation, make_keys, rotate, sign_root
from lading.sign.clock import system_clock
from lading.sign.keyring import KeyFolder, open_keys
from lading.sign.keys import ROLES, KeyProvider, Role
from lading.sign.repository import Reader, is_development, load_state
from lading.sign.secret import open_file
from lading.sign.status import RoleState, TrustStatus, trust_status

LARGEST = 5_000_000  # bytes of a metadata file that is looked at
MARK = {"good": "[green]good[/]", "soon": "[yellow]soon[/]", "expired": "[red]expired[/]", "missing": "[dim]none[/]"}

FolderOption = Annotated[Path, typer.Option("--keys", envvar="LADING_KEYS", metavar="DIR", help="The folder of keys.")]
ProjectOption = Annotated[Path, typer.Option("--project", help="The project's folder.")]
RoleArgument = Annotated[Role, typer.Argument(help="root, targets, snapshot or timestamp.")]
KEYS = Path("keys")


def _draw_root(change: RootChange, console: Console) -> None:
    console.print(f"[bold]Root {change.version}[/], good until {change.expires[:10]}", highlight=False)
    for item in change.roles:
        keys = ", ".join(item.keys)
        console.print(
            f"  {item.role}: {item.threshold} of {len(item.keys)}: {keys}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for line in change.warnings:
        console.print(f"  {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    signed = ", ".join(change.signed_by) or "nobody yet"
    console.print(f"  signed by {signed}", highlight=False, markup=False, soft_wrap=True)
    if change.complete:
        console.print(f"It is in force: {change.file}", markup=False, highlight=False, soft_wrap=True)
        return
    for line in change.missing:
        console.print(f"  still missing: {line}", highlight=False, markup=False, soft_wrap=True)
    if change.missing:
        console.print("Carry this file to where one of them is, and run `lading keys sign` there:", style="yellow")
    else:
        console.print("It has all signatures. Carry it back, and run `lading keys sign` there:", style="yellow")
    console.print(change.file, markup=False, highlight=False, soft_wrap=True)


def _elsewhere(given: Sequence[str], public: Sequence[str]) -> dict[Role, list[Elsewhere]]:
    """Pair ``--signer ROLE=URI`` with ``--public ROLE=FILE``, in their order."""
    uris, files = ([_assigned(text) for text in texts] for texts in (given, public))
    if [role for role, _ in uris] != [role for role, _ in files]:
        raise typer.BadParameter("every --signer needs a --public of the same role, in the same order")
    found: dict[Role, list[Elsewhere]] = {}
    for (role, uri), (_, file) in zip(uris, files, strict=True):
        found.setdefault(role, []).append(Elsewhere(uri=uri, public=Path(file).read_bytes()))
    return found


def _assigned(text: str) -> tuple[Role, str]:
    name, _, value = text.partition("=")
    if not value:
        raise typer.BadParameter(f"{text!r} is not ROLE=VALUE")
    return _role(name), value


def _role(name: str) -> Role:
    found = next((role for role in ROLES if role == name), None)
    if found is None:
        raise typer.BadParameter(f"there is no role {name!r}; there are {', '.join(ROLES)}")
    return found


def _init(
    keys: FolderOption = KEYS,
    *,
    root_keys: Annotated[int, typer.Option("--root-keys", min=1, help="How many root keys.")] = 1,
    root_threshold: Annotated[int, typer.Option("--root-threshold", min=1, help="How many of them must sign.")] = 1,
    targets_keys: Annotated[int, typer.Option("--targets-keys", min=1, help="How many keys sign releases.")] = 1,
    targets_threshold: Annotated[int, typer.Option("--targets-threshold", min=1, help="How many must sign.")] = 1,
    signer: Annotated[
        list[str] | None,
        typer.Option("--signer", metavar="ROLE=URI", help="A key elsewhere, such as awskms:…."),
    ] = None,
    public: Annotated[
        list[str] | None, typer.Option("--public", metavar="ROLE=FILE", help="That key's public half, PEM.")
    ] = None,
    passphrase_file: PassphraseOption = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Do not encrypt the key files.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Make the keys of a product, and its first root.

    Afterwards, take the root's key files to where they are safe, each to another place; the rest can go on.

    Example: `lading keys init --keys keys --root-keys 3 --root-threshold 2`
    """
    talk = session(json=json, verbose=verbose)
    plan = KeyPlan(
        counts={"root": root_keys, "targets": targets_keys},
        thresholds={"root": root_threshold, "targets": targets_threshold},
        elsewhere=_elsewhere(signer or (), public or ()),
        encrypt=not no_passphrase,
    )
    change = make_keys(keys, plan, passphrases(passphrase_file), system_clock())
    emit(talk, change, lambda console: _draw_root(change, console))


def _rotate(
    role: RoleArgument,
    keys: FolderOption = KEYS,
    *,
    replace: Annotated[
        list[str] | None, typer.Option("--replace", metavar="NAME", help="The key that goes, where there are several.")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Take no key out.")] = False,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="Take this key out, and put none in.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", min=1, help="How many of the role's keys must sign from now on.")
    ] = None,
    signer: Annotated[str | None, typer.Option("--signer", metavar="URI", help="The new key is there.")] = None,
    public: Annotated[Path | None, typer.Option("--public", metavar="FILE", help="Its public half, PEM.")] = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Give a role another key: a new root, signed by the old root's keys and by its own.

    Where too few of the root's keys are at hand, the new root waits in a file for `lading keys sign` elsewhere.
    The next `lading keys refresh` or `lading publish` brings it to the repository and signs anew what must be.

    Example: `lading keys rotate timestamp` or `lading keys rotate root --replace root-2`
    """
    talk = session(json=json, verbose=verbose)
    if (signer is None) != (public is None):
        raise typer.BadParameter("--signer and --public belong together")
    if sum((bool(replace), add, bool(remove))) > 1:
        raise typer.BadParameter("give one of --replace, --add and --remove")
    rotation = Rotation(
        role=role,
        new=not remove,
        add=Elsewhere(uri=signer, public=public.read_bytes()) if signer and public else None,
        replace=() if add else tuple(replace or remove or ()) or None,
        threshold=threshold,
    )
    change = rotate(keys, rotation, passphrases(passphrase_file), system_clock())
    emit(talk, change, lambda console: _draw_root(change, console))


def _renew(
    keys: FolderOption = KEYS,
    *,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Make the next root with the same keys and a later expiry; once a year, before the root expires.

    Example: `lading keys renew --keys keys`
    """
    talk = session(json=json, verbose=verbose)
    change = rotate(keys, None, passphrases(passphrase_file), system_clock())
    emit(talk, change, lambda console: _draw_root(change, console))


def _sign(
    file: Annotated[Path | None, typer.Argument(help="The waiting root; that of the folder without it.")] = None,
    keys: FolderOption = KEYS,
    *,
    key: Annotated[
        list[Path] | None, typer.Option("--key", metavar="FILE", help="A single key file, without its folder.")
    ] = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Add the signatures that can be made here to a root that waits for them. Read what it says before you do.

    Example: `lading keys sign root.pending.json --key /media/stick/root-2.pem`
    """
    talk = session(json=json, verbose=verbose)
    secrets = passphrases(passphrase_file)
    signers = [open_file(path, secrets) for path in key or ()]
    change = sign_root(file or KeyFolder(keys).pending, keys, secrets, signers)
    emit(talk, change, lambda console: _draw_root(change, console))


@contextmanager
def _reading(where: str | None, project: Path, keys: KeyProvider | None) -> Iterator[Reader]:
    if where is None:
        yield _roots_only(keys)
    elif where.lower().startswith(("http://", "https://")):
        with closing(open_source(where)) as source:
            yield lambda path: fetch_small(source, path, LARGEST)
    else:
        yield open_destination(where, project).read


def _roots_only(keys: KeyProvider | None) -> Reader:
    """A repository that has nothing yet but the roots of a folder of keys."""
    roots = keys.roots if keys is not None else ()
    files = {f"{METADATA}/{number}.root.json": data for number, data in enumerate(roots, start=1)}
    return files.get


def _draw_role(item: RoleState) -> tuple[str, str, str, str, str]:
    keys = "\n".join(f"{key.name}{'' if key.at_hand else ', not here'}" for key in item.keys)
    until = f"{item.expires[:10]} ({item.days_left} d)" if item.expires else ""
    return item.role, f"{item.threshold}/{len(item.keys)}", keys, until, f"{item.version or ''}"


def _draw_status(report: TrustStatus, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("role", "needs", "keys", "good until", "version", ""):
        table.add_column(heading, overflow="fold", no_wrap=heading != "keys")
    for item in report.roles:
        table.add_row(*_draw_role(item), MARK[item.condition])
    console.print(table, highlight=False)
    if report.development:
        console.print("Development keys: good for this machine and for tests.", style="yellow")
    for warning in report.warnings:
        console.print(f"! {warning}", style="yellow", highlight=False, markup=False)


def _status(
    repository: Annotated[
        str | None, typer.Argument(help="A destination of the manifests, a folder's path (with /), or an address.")
    ] = None,
    keys: FolderOption = KEYS,
    *,
    within: Annotated[
        int | None, typer.Option("--within", metavar="DAYS", help="Warn so many days before an expiry.")
    ] = None,
    project: ProjectOption = Path(),
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say who signs what, until when, and what needs doing.

    Exit code 33 when something has expired, 71 when something soon will: a scheduled job can tell somebody.
    A machine without keys can watch a repository by its address.

    Example: `lading keys status https://downloads.example.org/releases`
    """
    talk = session(json=json, verbose=verbose)
    there = KeyFolder(keys).exists or any(keys.glob("development-*.key.json"))
    provider = open_keys(keys, passphrases(None)) if there else None
    if repository is None and provider is None:
        raise ConfigError(
            f"There are no keys in {keys}, and no repository was named.",
            todo="Name a repository, or a folder of keys with --keys; make keys with `lading keys init`.",
        )
    with _reading(repository, project, provider) as read:
        state = load_state(read, provider)
    development = (
        is_development(state.data["root"]) if "root" in state.data else bool(provider and provider.development)
    )
    report = trust_status(state, provider, system_clock(), within=within, development=development)
    emit(talk, report, lambda console: _draw_status(report, console))
    if report.condition in {"expired", "soon"}:
        raise typer.Exit(MetadataExpired.exit_code if report.condition == "expired" else ExpiresSoon.exit_code)


def _draw_refresh(result: RefreshResult, console: Console) -> None:
    console.print(f"[bold]{result.destination}[/]", highlight=False, soft_wrap=True)
    for path in result.files:
        console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"The timestamp is good until {result.expires['timestamp'][:16].replace('T', ' ')} UTC", highlight=False
    )


def _refresh(
    to: Annotated[str, typer.Argument(help="A destination of the manifests, or a folder's path (with /).")] = "local",
    keys: FolderOption = KEYS,
    *,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=365, help="How long the timestamp is good for (30).")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="What is signed even if it is fresh (timestamp).")
    ] = None,
    project: ProjectOption = Path(),
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Sign a repository's timestamp anew, and whatever else is due and has its keys here. For a scheduled job.

    Needs the keys of timestamp and snapshot only. Releases stay as they are.

    Example: `lading keys refresh local --keys keys`, with LADING_KEY_TIMESTAMP and LADING_KEY_SNAPSHOT set
    """
    talk = session(json=json, verbose=verbose)
    if not KeyFolder(keys).exists and not any(keys.glob("development-*.key.json")):
        KeyFolder(keys).ring()  # raises, and says what to do: a renewal never makes keys
    provider = open_keys(keys, passphrases(passphrase_file))
    result = refresh(open_destination(to, project), provider, days=days, anew=[_role(name) for name in role or DAILY])
    emit(talk, result, lambda console: _draw_refresh(result, console))


def _export_root(
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    keys: FolderOption = KEYS,
    *,
    first: Annotated[bool, typer.Option("--first", help="The first root instead of the newest.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Write the root that clients embed. Any signed root will do: a client follows the chain from there.

    Example: `lading keys export-root root.json`
    """
    talk = session(json=json, verbose=verbose)
    roots = KeyFolder(keys).roots()
    if not roots:
        raise ConfigError(
            f"{keys} has no signed root.", todo="Make keys with `lading keys init`, or name their folder."
        )
    write_atomic(file, roots[0] if first else roots[-1])
    version = 1 if first else len(roots)
    emit(
        talk,
        {"file": str(file), "version": version},
        lambda console: console.print(
            f"Root {version} written to {file}", markup=False, highlight=False, soft_wrap=True
        ),
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(no_args_is_help=True, help="Make, change, watch and renew signing keys.")
    for name, command in (
        ("init", _init), ("status", _status), ("refresh", _refresh), ("rotate", _rotate), ("renew", _renew),
        ("sign", _sign), ("export-root", _export_root),
    ):  # fmt: skip
        keys.command(name)(command)
    app.add_typer(keys, name="keys")
