"""``lading doctor``: what this machine is, which build fits it, and why each other does not."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from lading.cli.shared import DEFAULT_APP, AppOption, DataOption, JsonOption, data_directory, emit, session
from lading.doctor import DoctorReport, Question, examine
from lading.errors import ConfigError
from lading.host.facts import host_facts
from lading.host.record import HostFacts
from lading.manifest.base import read_record
from lading.manifest.project import APP_FILE, load_project
from lading.manifest.toolkit import Toolkit
from lading.report.doctor_terminal import print_doctor

SourceArgument = Annotated[
    list[str] | None, typer.Argument(help="The repository: an address or folder, or several mirrors.")
]
RootOption = Annotated[
    Path | None, typer.Option("--root", help="The root metadata that you trust.", exists=True, dir_okay=False)
]
ProjectOption = Annotated[
    Path, typer.Option("--project", help="A project whose toolkits are weighed when there is no repository.")
]
GpusOption = Annotated[str | None, typer.Option("--gpus", help="The GPUs to use, as in CUDA_VISIBLE_DEVICES.")]
SimulateOption = Annotated[
    Path | None,
    typer.Option("--simulate", help="Examine the machine of another one's `lading doctor --json`.", dir_okay=False),
]


def _replayed(file: Path) -> tuple[HostFacts, DoctorReport | None]:
    """The machine of a report, or of a file with a machine's facts alone."""
    try:
        data = file.read_bytes()
        whole = "host" in jsonlib.loads(data)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{file} cannot be read as a report: {error}",
            usually="It is not the output of `lading doctor --json`.",
            todo="Ask for that output, whole.",
        ) from error
    if not whole:
        return read_record(HostFacts, data, origin=str(file)), None
    report = read_record(DoctorReport, data, origin=str(file))
    return report.host, report


def _toolkits(project: Path) -> tuple[Toolkit, ...]:
    return tuple(load_project(project).toolkits.values()) if (project / APP_FILE).is_file() else ()


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(
        source: SourceArgument = None,
        *,
        root: RootOption = None,
        data: DataOption = None,
        app: AppOption = DEFAULT_APP,
        channel: Annotated[str, typer.Option("--channel", help="The channel.")] = "stable",
        version: Annotated[str | None, typer.Option("--version", help="A version; the newest without it.")] = None,
        flavor: Annotated[
            str | None, typer.Option("--flavor", envvar="LADING_FLAVOR", help="Can this one run? cpu, or a toolkit.")
        ] = None,
        gpus: GpusOption = None,
        project: ProjectOption = Path(),
        simulate: SimulateOption = None,
        json: JsonOption = False,
    ) -> None:
        """Say what this machine is, which build fits it, and why each other does not. Changes nothing.

        Weighs what a repository offers, a project's toolkits, or what is installed. Exit code 0 when a CUDA build or
        the named flavor can run, 3 when only the CPU build can, 45 when nothing can.

        Example: `lading doctor https://downloads.example.org/releases --root root.json`
        """
        host, replayed = _replayed(simulate) if simulate is not None else (host_facts(), None)
        report = examine(
            Question(
                host=host,
                simulated=simulate is not None,
                replayed=replayed,
                data=data_directory(data, app),
                app=app,
                channel=channel,
                version=version,
                sources=tuple(source or ()),
                root=root.read_bytes() if root is not None else None,
                toolkits=_toolkits(project) if not source else (),
                flavor=flavor,
                devices=gpus,
            )
        )
        emit(session(json=json), report, lambda console: print_doctor(console, report))
        if report.exit_code:
            raise typer.Exit(report.exit_code)
