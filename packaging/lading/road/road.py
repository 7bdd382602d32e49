"""Walk the whole road with embedded defaults, and tell how it went: what ``nox -s build_cuda`` runs.

The steps: freeze, pack, sign and publish to a folder store, install from that store over HTTP on loopback, start the
installed server, verify packed assets, installed tree and running server. Each step is the room's own; here is only
their order, what is taken over from an earlier run, and the summary.

What was verified before is not verified again: a verdict is kept under the release's digest, the installed version and
the machine's facts. The server is always started and asked.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lading.atomic import write_atomic
from lading.digest import sha256_bytes, sha256_file
from lading.errors import FormatInvalid, LadingError, ReleaseTaken
from lading.freeze.freeze import FreezeResult, freeze
from lading.host.facts import host_facts
from lading.host.platform import this_platform
from lading.host.record import HostFacts
from lading.launch.server import RunningServer, running
from lading.manifest.base import Component, canonical_json, read_record
from lading.manifest.project import Project
from lading.manifest.toolkit import Toolkit
from lading.pack.pack import PackOptions, PackResult, pack
from lading.pack.profiles import Profile
from lading.pack.split import split
from lading.progress import Progress
from lading.publish.folder import FolderDestination
from lading.publish.loopback import serving
from lading.publish.outcome import PublishResult
from lading.publish.publisher import publish
from lading.report.format import size as size_text
from lading.report.summary import BuildSummary, Part, Place, Step, SummaryAsset, sizes_by_owner
from lading.sign.keys import development_keys
from lading.sign.repository import folder_reader, is_development, newest_root
from lading.store.home import Home, trust_folder
from lading.store.install import install
from lading.store.installed import Installed, current_version
from lading.store.result import InstallResult
from lading.verify import Verification, verify_packed, verify_server, verify_tree

SUMMARY = "summary.json"


@dataclass(frozen=True, kw_only=True)
class RoadOptions:
    """How to walk.

    Attributes:
        profile: How hard to compress.
        volume_limit: Largest asset in bytes.
        previous: Further folders with earlier releases, for patches.
        reuse_env: Freeze with the Python that runs Lading.
        require_gpu: Fail where nothing could run on a GPU.
        stay: Called with the running server before it is stopped; waits as long as it likes.
    """

    profile: Profile = "release"
    volume_limit: int
    previous: tuple[Path, ...] = ()
    reuse_env: bool = False
    require_gpu: bool = False
    stay: Callable[[RunningServer], None] | None = None


@dataclass(kw_only=True)
class _Walk:
    """One walk: what it works on and what it has learnt so far."""

    project: Project
    toolkit: Toolkit | None
    out: Path
    options: RoadOptions
    progress: Progress
    steps: list[Step] = field(default_factory=list)
    verifications: dict[str, Verification] = field(default_factory=dict)
    frozen: FreezeResult | None = None
    packed: PackResult | None = None
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.out / "store"

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def release_folder(self) -> Path:
        return self.out / "release"

    @property
    def flavor(self) -> str:
        return self.toolkit.name if self.toolkit else "cpu"

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, object]]:
        """Time a step; what the block puts into the mapping gets into its record."""
        began = time.monotonic()
        said: dict[str, object] = {}
        self.progress.note(f"== {name}")
        try:
            yield said
        finally:
            seconds = round(time.monotonic() - began, 3)
            self.steps.append(Step.model_validate({"name": name, "seconds": seconds, **said}))


def _freeze(walk: _Walk) -> FreezeResult:
    with walk.step("freeze") as said:
        result = freeze(
            walk.project,
            walk.toolkit,
            walk.out,
            platform=this_platform(),
            progress=walk.progress,
            reuse_env=walk.options.reuse_env,
        )
        notes = {
            "tree": "nothing changed",
            "modules": "only the program's own modules changed",
            None: "environment reused" if result.environment_reused else "environment from the lock",
        }
        said |= {"reused": result.reused == "tree", "note": notes[result.reused]}
    walk.frozen = result
    return result


def _pack(walk: _Walk, frozen: FreezeResult) -> PackResult:
    with walk.step("pack") as said:
        # A label names one content for ever, and the store is where labels are published. A version of the app may be
        # built again and again before it is given to anybody; _publish deals with that.
        published = (walk.store / "assets" / "libs",)
        result = pack(
            frozen.tree,
            frozen.info,
            walk.toolkit,
            walk.release_folder,
            options=PackOptions(
                profile=walk.options.profile,
                channel=walk.project.app.channel,
                volume_limit=walk.options.volume_limit,
                published=published,
                previous=(walk.store, *walk.options.previous),
                patches=walk.project.app.patches,
            ),
            progress=walk.progress,
            budgets=walk.project.app.budgets,
        )
        reused = [packed.record.component for packed in result.components if packed.reused]
        whole = len(reused) == len(result.components)
        said |= {"reused": whole, "note": f"{' and '.join(reused)} by digest" if reused else walk.options.profile}
    walk.packed = result
    return result


def _begin_anew(walk: _Walk) -> None:
    """Empty the development store, and forget that its metadata was ever seen: the same version gets other content."""
    walk.progress.note("This version was built before with other content: the development store is begun anew.")
    shutil.rmtree(walk.store)
    shutil.rmtree(trust_folder(walk.data), ignore_errors=True)


def _publish(walk: _Walk, packed: PackResult) -> PublishResult:
    with walk.step("sign and publish") as said:
        keys = development_keys(walk.out / "keys")
        destination = FolderDestination(walk.store, name="local")
        try:
            result = publish(packed.release_file.parent, packed.release_file, destination, keys, progress=walk.progress)
        except ReleaseTaken:
            # Nobody but this machine trusts development keys; a store that others may have read is never emptied.
            if not is_development(newest_root(folder_reader(walk.store)) or b""):
                raise
            _begin_anew(walk)
            result = publish(packed.release_file.parent, packed.release_file, destination, keys, progress=walk.progress)
        sent = f"{len(result.uploaded)} objects, {size_text(result.bytes_uploaded)}"
        said |= {
            "reused": not result.uploaded and not result.metadata,
            "note": f"{sent}, development keys" if result.uploaded else "nothing new",
        }
    return result


def _install(walk: _Walk) -> InstallResult:
    with walk.step("install") as said:
        root = (walk.store / "metadata" / "1.root.json").read_bytes()
        with serving(walk.store) as url:
            result = install(
                url,
                root,
                walk.data,
                app=walk.project.app.name,
                channel=walk.project.app.channel,
                version=walk.project.version,
                flavor=walk.flavor,
                progress=walk.progress,
            )
        fetched = f"{size_text(result.bytes_received)} over HTTP on loopback in {result.requests} requests"
        said |= {"reused": result.already_installed, "note": fetched}
    return result


def _key(packed: PackResult, installed: Installed, host: HostFacts, *, require_gpu: bool) -> str:
    """What a verdict holds for."""
    parts = [sha256_file(packed.release_file), installed.name, host.model_dump_json(), str(require_gpu)]
    return sha256_bytes("\n".join(parts).encode())


def _earlier_verdicts(file: Path, key: str) -> dict[str, Verification]:
    """Verdicts of an earlier run for the same release on the same machine; none when they were not good."""
    try:
        kept = json.loads(file.read_bytes())
        if kept["key"] != key:
            return {}
        found = {
            name: read_record(Verification, json.dumps(report).encode(), origin=str(file))
            for name, report in kept["verifications"].items()
        }
    except (OSError, ValueError, KeyError, FormatInvalid):
        return {}
    return found if all(report.passed for report in found.values()) else {}


def _verify_files(walk: _Walk, packed: PackResult, installed: Installed, host: HostFacts) -> None:
    """Verify the packed assets and the installed tree, unless that was done before."""
    kept = walk.out / "verified" / f"{walk.flavor}.json"
    with walk.step("verify files") as said:
        key = _key(packed, installed, host, require_gpu=walk.options.require_gpu)
        walk.verifications |= _earlier_verdicts(kept, key) if installed.looks_whole() else {}
        if walk.verifications:
            said |= {"reused": True, "note": "same release, same machine"}
            return
        also = {part.folder for part in packed.components} - {walk.release_folder}
        walk.verifications["packed assets"] = verify_packed(
            walk.release_folder, packed.release, also=sorted(also), host=host, progress=walk.progress
        )
        walk.verifications["installed tree"] = verify_tree(
            installed.tree,
            entry=installed.marker.entry,
            release=installed.release(),
            indexes=installed.indexes().values(),
            require_gpu=walk.options.require_gpu,
            host=host,
            progress=walk.progress,
        )
        reports = {name: report.model_dump(mode="json", by_alias=True) for name, report in walk.verifications.items()}
        write_atomic(kept, json.dumps({"key": key, "verifications": reports}).encode())
        said["note"] = f"{sum(len(report.checks) for report in walk.verifications.values())} checks"


def _run(walk: _Walk, installed: Installed, host: HostFacts) -> None:
    with walk.step("start and ask") as said:
        log = walk.out / "logs" / f"{walk.flavor}-server.log"
        with running(installed.tree, installed.marker.entry, log=log) as server:
            health = server.health
            gpu = f"on {health.gpu_type}" if health.gpu_available else "without a GPU"
            said["note"] = f"healthy after {server.seconds:.1f} s, {health.backend_variant} {gpu}"
            walk.verifications["running server"] = verify_server(
                server.url,
                tree=installed.tree,
                pid=server.pid,
                release=installed.release(),
                require_gpu=walk.options.require_gpu,
                host=host,
            )
            if walk.options.stay is not None:
                walk.options.stay(server)


def _parts(walk: _Walk, packed: PackResult) -> tuple[Part, ...]:
    budgets = {"core": walk.project.app.budgets.core, "libs": walk.toolkit.budgets.libs if walk.toolkit else None}
    return tuple(
        Part(
            name=part.record.component,
            version=part.record.version,
            files=part.record.files,
            unpacked=part.record.unpacked,
            packed=part.record.size,
            budget=budgets[part.record.component],
            reused=part.reused,
        )
        for part in packed.components
    )


def _assets(packed: PackResult) -> tuple[SummaryAsset, ...]:
    """The release's files, without the checksum beside each."""
    found = [SummaryAsset(name=packed.release_file.name, size=packed.release_file.stat().st_size)]
    for part in packed.components:
        found += [SummaryAsset(name=asset.name, size=asset.size) for asset in (*part.record.volumes, part.record.index)]
    found += [SummaryAsset(name=patch.asset.name, size=patch.asset.size) for patch in packed.release.patches]
    return tuple(found)


def _places(walk: _Walk) -> tuple[Place, ...]:
    def relative(path: Path) -> str:
        return path.relative_to(walk.project.root).as_posix() if path.is_relative_to(walk.project.root) else str(path)

    places = [Place(what="assets", path=relative(walk.release_folder)), Place(what="store", path=relative(walk.store))]
    if walk.frozen is not None:
        places.insert(0, Place(what="tree", path=relative(walk.frozen.tree)))
    if (installed := current_version(Home(walk.data, "cuda" if walk.toolkit else "cpu"))) is not None:
        places.append(Place(what="installed", path=relative(installed.tree)))
        places.append(Place(what="start it", path=f"lading run --data {relative(walk.data)}"))
    places.append(Place(what="summary", path=relative(walk.out / SUMMARY)))
    return tuple(places)


def _facts(frozen: FreezeResult) -> dict[str, str]:
    info = frozen.info
    facts = {"Python": info.provenance.python, "PyInstaller": info.provenance.pyinstaller, "modules": info.modules}
    if info.torch is not None:
        facts |= {"torch": info.torch.version, "CUDA": info.torch.cuda, "archs": " ".join(info.torch.archs)}
    if info.glibc is not None:
        facts["glibc"] = f"{info.glibc} or newer"
    return facts


def _summary(walk: _Walk, began: float, problem: LadingError | None) -> BuildSummary:
    frozen, packed = walk.frozen, walk.packed
    components: dict[str, Component] = {}
    if frozen is not None and packed is not None:
        parts = split(frozen.info.files, walk.toolkit)
        components = {entry.path: name for name, entries in parts.items() for entry in entries}
    return BuildSummary(
        app=walk.project.app.name,
        version=walk.project.version,
        flavor=walk.flavor,
        platform=this_platform(),
        commit=frozen.info.provenance.commit if frozen else "unknown",
        profile=walk.options.profile,
        steps=tuple(walk.steps),
        seconds=round(time.monotonic() - began, 3),
        tree_files=len(frozen.info.files) if frozen else 0,
        tree_size=sum(entry.size for entry in frozen.info.files) if frozen else 0,
        owners=sizes_by_owner(frozen.info.files, components or None) if frozen else (),
        parts=_parts(walk, packed) if packed else (),
        assets=_assets(packed) if packed else (),
        facts=_facts(frozen) if frozen else {},
        verifications=walk.verifications,
        places=_places(walk),
        outcome="failed" if problem else "done",
        problem=problem.what if problem else None,
    )


def walk_road(
    project: Project, toolkit: Toolkit | None, out: Path, options: RoadOptions, progress: Progress
) -> tuple[BuildSummary, LadingError | None]:
    """Walk the whole road.

    Args:
        project: The project.
        toolkit: The toolkit, or none for a CPU build.
        out: The folder for build outputs.
        options: How to walk.
        progress: Where to report.

    Returns:
        The summary, also written to ``out/summary.json``; and the error that ended the walk, if one did. A failed
        verification is no error here: the summary has it.
    """
    began = time.monotonic()
    walk = _Walk(project=project, toolkit=toolkit, out=out.absolute(), options=options, progress=progress)
    problem: LadingError | None = None
    try:
        frozen = _freeze(walk)
        packed = _pack(walk, frozen)
        _publish(walk, packed)
        _install(walk)
        host = host_facts()
        installed = current_version(Home(walk.data, packed.release.variant))
        assert installed is not None  # install() has just made it current
        _verify_files(walk, packed, installed, host)
        _run(walk, installed, host)
    except LadingError as error:
        problem = error
    summary = _summary(walk, began, problem)
    write_atomic(walk.out / SUMMARY, canonical_json(summary))
    return summary, problem
