"""An examination on a terminal of 80 columns: the machine, what fits it and why, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lading.doctor.record import DoctorReport, FolderFacts, OfferedBy, SourceFacts
from lading.host.choice import Assessment, Resolution, Verdict
from lading.host.record import Gpu, HostFacts
from lading.report.format import duration, plural, size

_MARK: dict[Verdict, str] = {"fits": "✓", "unknown": "?", "no": "✗"}
_STYLE: dict[Verdict, str] = {"fits": "green", "unknown": "yellow", "no": "red"}
_BY: dict[OfferedBy, str] = {
    "source": "what the repository offers",
    "toolkits": "what this project can build",
    "installed": "what is installed",
    "report": "what was offered there",
    "nobody": "",
}


def print_doctor(console: Console, report: DoctorReport) -> None:
    """Draw a report.

    Args:
        console: Where.
        report: What was found.
    """
    _machine(console, report)
    _hints(console, report)
    if report.resolution is not None:
        _builds(console, report, report.resolution)
    if report.simulated:
        return  # the rest would be about another machine
    _data(console, report)
    _network(console, report)
    _installed(console, report)


def _heading(console: Console, text: str, aside: str = "") -> None:
    console.print()
    console.print(Text.assemble((text, "bold"), (f"  {aside}" if aside else "", "dim")))


def _grid(console: Console, rows: Iterable[tuple[str | Text, ...]], *, indent: int = 2) -> None:
    grid = Table.grid(padding=(0, 2))
    for number, row in enumerate(rows):
        if number == 0:
            for column in range(len(row)):
                last = column == len(row) - 1
                grid.add_column(no_wrap=not last, overflow="fold", style=None if column else "dim")
        grid.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    console.print(Padding(grid, (0, 0, 0, indent), expand=False))


def _line(console: Console, mark: str, style: str, text: str) -> None:
    """One marked line; its text goes on under itself, not under the mark."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark, style=style), Text(text))
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))


def _machine(console: Console, report: DoctorReport) -> None:
    host = report.host
    console.print(Text.assemble(("Machine", "bold"), ("  from a report" if report.simulated else "", "dim")))
    rows: list[tuple[str, str]] = [("system", _system(host))]
    rows.append(("driver", f"NVIDIA {host.gpu.driver}{_driver_cuda(host)}" if host.gpu.driver else _no_driver(host)))
    rows += [("GPU" if number == 0 else "", _gpu(gpu)) for number, gpu in enumerate(host.gpu.gpus)]
    if not host.gpu.gpus:
        rows.append(("GPU", f"none that can be used ({host.gpu.reason or 'unknown'})"))
    _grid(console, rows)


def _system(host: HostFacts) -> str:
    libc = f"glibc {host.glibc}" if host.glibc else host.libc or ""
    memory = f"{size(host.memory)} of memory" if host.memory else ""
    inside = f"in a container ({host.clues.container})" if host.clues.container else ""
    wsl = "inside Windows (WSL)" if host.clues.wsl else ""
    parts = (host.system, host.platform, libc, plural(host.cpus, "processor"), memory, inside, wsl)
    return ", ".join(part for part in parts if part)


def _driver_cuda(host: HostFacts) -> str:
    return f", for CUDA up to {host.gpu.cuda}" if host.gpu.cuda else ""


def _no_driver(host: HostFacts) -> str:
    return host.gpu.detail or "none"


def _gpu(gpu: Gpu) -> str:
    parts = [f"{gpu.index}: {gpu.name}", f"compute {gpu.capability or 'unknown'}"]
    parts += [size(gpu.memory)] if gpu.memory else []
    parts += ["vGPU"] if gpu.virtual == "vgpu" else []
    parts += [f"MIG, {plural(len(gpu.instances), 'instance')}"] if gpu.mig else []
    return ", ".join(parts)


def _hints(console: Console, report: DoctorReport) -> None:
    notes = report.resolution.notes if report.resolution is not None else ()
    if not report.hints and not notes:
        return
    _heading(console, "What explains it" if report.hints else "Good to know")
    for hint in report.hints:
        _line(console, "!", "yellow", hint.text)
        _line(console, " →", "bold", hint.todo)
    for note in notes:
        _line(console, "·", "dim", note)


def _builds(console: Console, report: DoctorReport, found: Resolution) -> None:
    _heading(console, "Builds", _BY[report.offered_by])
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    total = len(report.host.gpu.gpus)
    for one in found.assessments:
        style = _STYLE[one.verdict]
        name = Text(one.flavor, style="bold" if one.flavor == found.chosen else "")
        version = Text(one.version or "", style="dim")
        grid.add_row(Text(_MARK[one.verdict], style=style), name, version, Text(_verdict(one, total)))
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))
    console.print()
    for line in _conclusion(found):
        console.print(line)
    for remedy in found.remedies:
        _line(console, "→", "bold", remedy.text)


def _verdict(one: Assessment, total: int) -> str:
    """Every reason once; of what is the same for several GPUs, the first."""
    told = list(dict.fromkeys(reason.text for reason in one.reasons))
    if one.cuda is None:
        return " ".join(told) or "runs on every machine"
    if one.verdict == "fits":
        where = "runs here" if one.whole else f"runs on {len(one.covers)} of {plural(total, 'GPU')}."
        return " ".join([f"{where}." if one.whole and told else where, *told])
    return " ".join(told)


def _conclusion(found: Resolution) -> Iterable[Text]:
    style = "bold green" if found.chosen is not None and found.fits == "fits" else "bold yellow"
    head = found.chosen if found.chosen is not None else "no build"
    yield Text.assemble((head, style), f": {found.why.text}")
    if found.visible is not None:
        yield Text(f"Run it with CUDA_VISIBLE_DEVICES={found.visible}")
    if found.needs_kernel_test:
        yield Text("Only a test on the GPU can tell: `lading verify --require-gpu` after the installation.")


def _data(console: Console, report: DoctorReport) -> None:
    folder = report.folder
    _heading(console, "Data directory")
    console.print(Text(f"  {folder.path}"), soft_wrap=True)
    if folder.problem is not None or not folder.writable:
        _line(console, "✗", "red", folder.problem or "It cannot be written.")
        return
    _line(console, "✓", "green", ", ".join(_abilities(folder)))
    if not folder.has_room:
        need = f"{size(folder.needed or 0)} are needed beside what is installed, {size(folder.free or 0)} are free."
        _line(console, "✗", "red", need)


def _abilities(folder: FolderFacts) -> Iterable[str]:
    yield "writable" if folder.exists else "can be made"
    if folder.free is not None:
        yield f"{size(folder.free)} free"
    yield "hard links" if folder.hard_links else "no hard links: every version takes its full size"
    yield "symbolic links" if folder.symlinks else "no symbolic links"
    yield "case-sensitive" if folder.case_sensitive else "not case-sensitive"


def _network(console: Console, report: DoctorReport) -> None:
    if report.source is None and not report.network:
        return
    _heading(console, "Network")
    if report.network:
        _grid(console, list(report.network.items()))
    if report.source is not None:
        _source(console, report.source)


def _source(console: Console, source: SourceFacts) -> None:
    console.print(Text(f"  {source.address}"), soft_wrap=True)
    if source.proxy is not None:
        _line(console, "·", "dim", f"through {source.proxy}")
    if source.trouble is not None:
        _line(console, "✗", "red", f"{source.trouble.what} ({source.trouble.kind}, {source.trouble.exit_code})")
        for text in (source.trouble.usually, source.trouble.todo):
            if text:
                _line(console, " ", "", text)
        return
    said = "answers and is verified" if source.verified else "answers; without --root nothing of it is verified"
    amount = f"{plural(source.requests, 'request')}, {size(source.bytes_received)}, {duration(source.seconds)}"
    _line(console, "✓", "green" if source.verified else "yellow", f"{said} ({amount})")
    if source.expires is not None:
        _line(console, "·", "dim", f"signed until {source.expires}")
    if source.clock == "behind":
        text = "This machine's clock is behind: the newest release is from its future."
        _line(console, "✗", "red", text)


def _installed(console: Console, report: DoctorReport) -> None:
    versions = [version for variant in report.installed.variants for version in variant.versions]
    _heading(console, "Installed", "" if versions else "nothing")
    for version in versions:
        style = "green" if version.whole else "red"
        text = f"{version.name}{', in use' if version.in_use else ''}{'' if version.whole else ', damaged'}"
        _line(console, "✓" if version.whole else "✗", style, text)
        if not version.whole:
            _line(console, " →", "bold", "Run `lading install` again: it fetches what is wrong.")
    for variant in report.installed.variants:
        if variant.last_failure is not None:
            _line(console, "!", "yellow", f"last failure: {variant.last_failure.what}")
