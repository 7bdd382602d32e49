"""Freeze a program: the steps in order.

1. Make the build environment from the locks, or take the running one.
2. Hold its torch against the toolkit.
3. If a tree made from the same sources is there, take it; if only insides of the program's own modules changed, compile
   those into a copy of it and try that.
4. Run PyInstaller.
5. Gates: imports, owners, shared libraries, ``--version``, ``--selftest``.
6. Read the tree and write ``buildinfo.json``.
7. Move both into place; until then the older tree stays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path

from backports import zstd
from filelock import FileLock, Timeout

from lading.atomic import as_host_error, write_atomic
from lading.errors import Busy, LadingError
from lading.freeze.environment import Environment, closure, find_uv, make_environment, pins, running_environment
from lading.freeze.gates import (
    allowed_distributions,
    check_imports,
    check_linkage,
    check_strangers,
    check_torch,
    check_untouched,
    unwanted_modules,
)
from lading.freeze.increment import compile_into, read_again, share_tree
from lading.freeze.owners import owners, sources
from lading.freeze.place import is_intact, put_in_place, recover
from lading.freeze.provenance import Commit, find_commit
from lading.freeze.pyinstaller import Frozen, run_pyinstaller
from lading.freeze.settings import spec_settings
from lading.freeze.sources import (
    SourceModule,
    SourceState,
    changed_modules,
    collected_files,
    source_state,
    still_collected,
)
from lading.freeze.trial import try_selftest, try_version
from lading.linkage import scan as scan_linkage
from lading.linkage.scan import walk
from lading.manifest.base import Platform, Variant, canonical_json, read_record
from lading.manifest.buildinfo import BuildInfo, DroppedFile, OwnedEntry
from lading.manifest.lockfile import read_requirements
from lading.manifest.project import Project
from lading.manifest.release import Provenance
from lading.manifest.toolkit import Toolkit
from lading.pack.scan import PAYLOAD, scan_tree
from lading.progress import Progress

BUILDINFO = "buildinfo.json"
_STATE = "freeze-state.json"


@dataclass(frozen=True, kw_only=True)
class FreezeResult:
    """A frozen tree.

    Attributes:
        tree: The onedir tree.
        info: What is in it.
        info_file: The same as a file, beside the tree.
        reused: ``tree`` when it was there already, ``modules`` when only the program's own modules were compiled into
            an older one, else none.
        environment_reused: Whether the build environment was there already.
    """

    tree: Path
    info: BuildInfo
    info_file: Path
    reused: str | None
    environment_reused: bool


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One freeze: what and where."""

    project: Project
    toolkit: Toolkit | None
    platform: Platform
    out: Path
    progress: Progress
    commit: Commit

    @property
    def flavor(self) -> str:
        return self.toolkit.name if self.toolkit else "cpu"

    @property
    def executable(self) -> str:
        names = self.project.app.executable
        return names.cuda if self.toolkit else names.cpu

    @property
    def entry(self) -> str:
        return self.executable + (".exe" if self.platform.startswith("windows") else "")

    @property
    def home(self) -> Path:
        return self.out / "tree" / self.flavor

    @property
    def tree(self) -> Path:
        return self.home / self.executable

    @property
    def work(self) -> Path:
        return self.out / "work" / self.flavor

    @property
    def staged(self) -> Path:
        return self.work / "next"

    @property
    def aside(self) -> Path:
        return self.work / "previous"


def _environment(job: _Job, *, reuse: bool) -> Environment:
    app = job.project.app
    with_torch = job.toolkit is not None
    if reuse:
        return running_environment(allowed=app.python, with_torch=with_torch)
    lock = job.project.lock(job.flavor, job.platform).relative_to(job.project.root).as_posix()
    return make_environment(
        job.project.root,
        [lock, app.freeze_lock],
        job.out / "env",
        flavor=job.flavor,
        allowed=app.python,
        with_torch=with_torch,
        progress=job.progress,
    )


def _allowed(job: _Job, environment: Environment) -> frozenset[str]:
    """The distributions that may be in the tree."""
    if environment.locks:
        lock = job.project.lock(job.flavor, job.platform)
        return allowed_distributions(pins(lock.read_text(encoding="utf-8"), lock.name), ())
    direct = [
        str(wanted.requirement) for wanted in read_requirements(job.project.root, job.project.app.requirements).wanted
    ]
    torch = ["torch", "triton"] if job.toolkit else []
    return allowed_distributions((), closure([*direct, *torch], environment.distributions))


def _provenance(job: _Job, environment: Environment) -> Provenance:
    return Provenance(
        commit=job.commit.name,
        epoch=job.commit.epoch,
        locks=dict(environment.locks),
        python=environment.version,
        pyinstaller=environment.distributions["pyinstaller"].version,
        torch=environment.torch.version if environment.torch else None,
        zstd=zstd.zstd_version,
        lading=distribution_version("lading"),
    )


def _trial(job: _Job, tree: Path) -> None:
    try_version(tree, job.entry, name=job.project.app.name, version=job.project.version)
    with job.progress.task("self-test", None, unit="steps"):
        try_selftest(tree, job.entry)


def _older(job: _Job) -> tuple[SourceState, BuildInfo] | None:
    """The build that is in place, with what it was made from; none when there is none to rely on."""
    try:
        old = read_record(SourceState, (job.home / _STATE).read_bytes(), origin=_STATE)
        info = read_record(BuildInfo, (job.home / BUILDINFO).read_bytes(), origin=BUILDINFO)
    except (FileNotFoundError, LadingError):
        return None  # nothing, or left by another version of Lading
    if not is_intact(job.tree, info.files) or not still_collected(old.collected, job.project):
        return None
    return old, info


def _reuse(job: _Job, environment: Environment, state: SourceState) -> FreezeResult | None:
    """Take the older tree, or make one from it in which changed modules are new; none when it takes a full freeze."""
    older = _older(job)
    changed = changed_modules(state, older[0]) if older else None
    if older is None or changed is None or (changed and older[1].modules != "loose"):
        return None
    old, info = older
    facts = {
        "version": job.project.version,
        "features": job.project.app.features,
        "provenance": _provenance(job, environment),
    }
    if changed:
        job.progress.note(f"compiling {len(changed)} changed module(s) into a copy of the tree that is there")
        fresh = info.model_copy(update=facts | {"files": _increment(job, environment, info, changed)})
        _move_into_place(job, fresh, state.model_copy(update={"collected": old.collected}))
    else:
        fresh = info.model_copy(update=facts)
        write_atomic(job.home / BUILDINFO, canonical_json(fresh))
    return _result(job, environment, fresh, reused="modules" if changed else "tree")


def _increment(
    job: _Job, environment: Environment, info: BuildInfo, changed: tuple[SourceModule, ...]
) -> tuple[OwnedEntry, ...]:
    """Make the new tree in the staging folder; gives its entries."""
    tree = job.staged / job.executable
    share_tree(job.tree, tree)
    compile_into(tree, job.project.root, changed, environment.python, job.work / "modules", epoch=job.commit.epoch)
    _trial(job, tree)
    check_untouched((path for path, _ in walk(tree)), {entry.path for entry in info.files})
    return read_again(info.files, tree, changed)


def _freeze(job: _Job, environment: Environment) -> tuple[Frozen, frozenset[str]]:
    allowed = _allowed(job, environment)
    modules = {name: item.modules for name, item in environment.distributions.items()}
    settings = spec_settings(
        job.project,
        name=job.executable,
        excludes=unwanted_modules(modules, allowed, job.project.app.packages),
        exclusions=job.toolkit.exclude if job.toolkit else (),
        contents=job.work / "contents.json",
    )
    with job.progress.task("freezing", None, unit="steps"):
        frozen = run_pyinstaller(
            environment,
            job.project.path(job.project.app.spec),
            settings,
            job.work,
            epoch=job.commit.epoch,
            log=job.out / "work" / f"{job.flavor}-pyinstaller.log",
        )
    return frozen, allowed


def _gates(
    job: _Job, environment: Environment, frozen: Frozen, allowed: frozenset[str]
) -> tuple[Mapping[str, str], str | None]:
    """Run all gates.

    Returns:
        The owner of each file, and the tree's glibc floor.
    """
    app = job.project.app
    variant: Variant = "cuda" if job.toolkit else "cpu"
    entry = job.project.path(app.entry)
    strange = check_imports(frozen.warnings, frozen.log, frozen.contents, app, variant=variant, entry=entry)
    if strange:
        job.progress.note(f"{len(strange)} optional hidden import(s) of dependencies were not found; see the log")
    roots = tuple(job.project.path(root) for root in app.import_roots)
    found = owners(frozen.contents, sources(environment, job.project.root, roots, app.packages), PAYLOAD)
    check_strangers(found, allowed)
    linkage = scan_linkage(frozen.tree, PAYLOAD, platform=job.platform)
    check_linkage(linkage)
    _trial(job, frozen.tree)
    return found, linkage.glibc


def _dropped(frozen: Frozen, environment: Environment, job: _Job) -> tuple[DroppedFile, ...]:
    roots = tuple(job.project.path(root) for root in job.project.app.import_roots)
    known = sources(environment, job.project.root, roots, job.project.app.packages)
    items = []
    for item, reason in frozen.contents.dropped:
        size = 0
        with suppress(OSError):
            size = Path(item.source).stat().st_size if item.typecode != "SYMLINK" else 0
        owner = known.by_path.get(item.source) or known.by_module.get(item.path.removesuffix("c"), "")
        items.append(DroppedFile(path=item.path, size=size, owner=owner, reason=reason))
    return tuple(sorted({item.path: item for item in items}.values(), key=lambda item: item.path))


def _info(
    job: _Job, environment: Environment, frozen: Frozen, found: Mapping[str, str], glibc: str | None
) -> BuildInfo:
    entries = scan_tree(frozen.tree, job.progress)
    check_untouched((entry.path for entry in entries), found)
    files = tuple(OwnedEntry(**entry.model_dump(), owner=found[entry.path]) for entry in entries)
    used = {entry.owner for entry in files}
    return BuildInfo(
        app=job.project.app.name,
        version=job.project.version,
        platform=job.platform,
        variant="cuda" if job.toolkit else "cpu",
        entry=job.entry,
        toolkit=job.toolkit.name if job.toolkit else None,
        modules=job.project.app.modules,
        features=job.project.app.features,
        files=files,
        dropped=_dropped(frozen, environment, job),
        distributions={n: d.version for n, d in sorted(environment.distributions.items()) if n in used},
        torch=environment.torch if job.toolkit else None,
        glibc=glibc,
        provenance=_provenance(job, environment),
    )


def _move_into_place(job: _Job, info: BuildInfo, state: SourceState) -> None:
    """Complete the build in the staging folder and put it in the older one's place."""
    write_atomic(job.staged / _STATE, canonical_json(state))
    write_atomic(job.staged / BUILDINFO, canonical_json(info))
    put_in_place(job.staged, job.home, job.aside)


def _result(job: _Job, environment: Environment, info: BuildInfo, *, reused: str | None) -> FreezeResult:
    return FreezeResult(
        tree=job.tree,
        info=info,
        info_file=job.home / BUILDINFO,
        reused=reused,
        environment_reused=environment.reused,
    )


@contextmanager
def _alone(job: _Job) -> Iterator[None]:
    """Keep other processes out of the flavor's folders, and clean up what one that was killed left in them."""
    lock = FileLock(job.out / "work" / f"{job.flavor}.lock", timeout=0)
    job.work.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(
            f"Another process is freezing {job.flavor} in {job.out}.",
            usually="The same command runs in another window, or the jobs of a CI runner share a folder.",
            todo="Wait for it to end, or give another folder with --out.",
        ) from error
    try:
        recover(job.home, job.aside)
        shutil.rmtree(job.staged, ignore_errors=True)
        yield
    finally:
        shutil.rmtree(job.staged, ignore_errors=True)
        lock.release()


def _run(job: _Job, *, reuse_env: bool) -> FreezeResult:
    # 1, 2
    environment = _environment(job, reuse=reuse_env)
    if job.toolkit is not None:
        check_torch(environment.torch, job.toolkit)
    # 3
    epoch = job.commit.epoch if job.platform.startswith("windows") else None
    state = source_state(job.project, job.toolkit, environment, epoch)
    if (reused := _reuse(job, environment, state)) is not None:
        return reused
    # 4, 5, 6
    frozen, allowed = _freeze(job, environment)
    found, glibc = _gates(job, environment, frozen, allowed)
    info = _info(job, environment, frozen, found, glibc)
    collected = collected_files(frozen.contents, job.project, state, [job.out, environment.prefix])
    # 7
    job.staged.mkdir()
    frozen.tree.replace(job.staged / job.executable)
    _move_into_place(job, info, state.model_copy(update={"collected": collected}))
    return _result(job, environment, info, reused=None)


def freeze(
    project: Project,
    toolkit: Toolkit | None,
    out: Path,
    *,
    platform: Platform,
    progress: Progress,
    reuse_env: bool = False,
) -> FreezeResult:
    """Freeze the project's program.

    Args:
        project: The project.
        toolkit: The toolkit, or none for a CPU build.
        out: The folder for build outputs; the tree is made in ``out/tree/<flavor>``.
        platform: The platform, which must be this machine's.
        progress: Where to report.
        reuse_env: Freeze with the interpreter that runs Lading, for runners without a network.

    Returns:
        The tree and its build information.

    Raises:
        ConfigError: Interpreter, lock, tools or variables are wrong.
        Busy: Another process freezes the same flavor there.
        BuildBroken: A gate stopped the build; an older tree is still there.
        DiskFull, AccessDenied: There is no room or no right to write.
    """
    job = _Job(
        project=project,
        toolkit=toolkit,
        platform=platform,
        out=Path(os.path.abspath(out)),  # noqa: PTH100 (takes ".." out, as the paths that owners are found by have none)
        progress=progress,
        commit=find_commit(project.root),
    )
    try:
        with _alone(job):
            return _run(job, reuse_env=reuse_env)
    except OSError as error:
        raise as_host_error(error, f"freezing {project.app.name}") from error


def read_buildinfo(path: Path) -> BuildInfo:
    """Read ``buildinfo.json``.

    Raises:
        FormatInvalid: It is no such record.
        OSError: It cannot be read.
    """
    return read_record(BuildInfo, path.read_bytes(), origin=str(path))


def uv_available() -> bool:
    """Whether environments will be made by uv."""
    return find_uv() is not None
