"""Places of every kind that channels are changed at and clients install from: a folder, Swift, GitHub."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.doubles.fixtures import MakePlace
from tests.doubles.github import GitHubDouble, running
from tests.doubles.places import PREFIX, Place
from tests.doubles.s3_client import plain_client
from tests.packed_release import APP, ENTRY, Files, Link, program, write_packed

from lading.fetch.github import GitHubSource
from lading.fetch.source import Source
from lading.manifest.github_layout import BRANCH, GitHubRepository
from lading.publish.destination import Destination
from lading.publish.folder import FolderDestination
from lading.publish.github import GitHubDestination
from lading.publish.packed import read_packed
from lading.publish.publisher import Signature, publish_everywhere
from lading.publish.together import Signing
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import development_keys
from lading.store.install import install
from lading.store.result import InstallResult

Kind = Literal["folder", "swift", "github"]
KINDS: tuple[Kind, ...] = ("folder", "swift", "github")
LIBS: Files = {"_internal/nvidia/lib.so": bytes(range(256)) * 300, "_internal/nvidia/l.so": Link("lib.so")}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A destination, opened anew as often as wanted, and its clients' view.

    Attributes:
        open: Opens it, as another process would.
        source: What a client reads from.
        read: A file of the repository.
        assets: Names of the assets that lie there, as the destination calls them.
        double: GitHub's, if it is that.
    """

    open: Callable[[], Destination]
    source: Callable[[], Source | str]
    read: Callable[[str], bytes | None]
    assets: Callable[[], set[str]]
    double: GitHubDouble | None = None

    @property
    def root(self) -> bytes:
        """What clients embed."""
        found = self.read("metadata/1.root.json")
        assert found is not None
        return found


@contextmanager
def site(kind: Kind, make_place: MakePlace, folder: Path) -> Iterator[Site]:
    """A place of a kind while the block runs."""
    if kind == "folder":
        yield folder_site(folder)
        return
    if kind == "swift":
        yield bucket_site(make_place("swift"))
        return
    with running() as double:
        repo = double.add_repo()
        repository = GitHubRepository(name=repo.name, web=double.web)
        yield Site(
            open=lambda: GitHubDestination(repository, "t0ken", sleep=lambda _: None),
            source=lambda: GitHubSource(repository),
            read=lambda path: repo.git.file(BRANCH, path),
            assets=lambda: set(double.published()),
            double=double,
        )


def bucket_site(place: Place) -> Site:
    """A bucket that everybody may read as a place."""
    client = plain_client(place.store, place.key, place.secret)

    def keys(prefix: str) -> set[str]:
        found = client.list_objects_v2(Bucket=place.bucket, Prefix=f"{PREFIX}/{prefix}").get("Contents", [])
        return {item["Key"].removeprefix(f"{PREFIX}/") for item in found}

    def read(path: str) -> bytes | None:
        if path not in keys(path):
            return None
        return client.get_object(Bucket=place.bucket, Key=f"{PREFIX}/{path}")["Body"].read()

    return Site(open=place.open, source=lambda: f"{place.public}/{PREFIX}", read=read, assets=lambda: keys("assets/"))


def folder_site(folder: Path) -> Site:
    """A folder as a place."""

    def read(path: str) -> bytes | None:
        return (folder / path).read_bytes() if (folder / path).is_file() else None

    def stored() -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.glob("assets/**/*") if path.is_file()}

    return Site(open=lambda: FolderDestination(folder), source=lambda: str(folder), read=read, assets=stored)


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Packs and publishes small releases to a place, with keys of its own.

    Attributes:
        site: The place.
        folder: For keys and packed folders.
        clock: What time it is for signatures.
    """

    site: Site
    folder: Path
    clock: Clock = system_clock
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def signing(self) -> Signing:
        """The publisher's keys."""
        return Signing(keys=development_keys(self.folder / "keys"), clock=self.clock)

    def release(
        self,
        version: str,
        *,
        channel: str = "stable",
        libs: Files | None = None,
        label: str = "cu126-v1",
        rollout: int | None = None,
    ) -> None:
        """Publish a release that prints its version."""
        packed = self.folder / f"packed-{version}-{next(self._numbers)}"
        core: Files = {
            ENTRY: program(version),
            "_internal/a.pyc": version.encode() * 500,
            "_internal/b.pyc": b"b" * 9000,
        }
        file = write_packed(packed, version, core, libs, label=label, channel=channel)
        signature = Signature(keys=development_keys(self.folder / "keys"), clock=self.clock)
        (ended,) = publish_everywhere((read_packed(packed, file),), (self.site.open(),), signature, rollout=rollout)
        if ended.error is not None:
            raise ended.error

    def install(self, data: Path, **wish: object) -> InstallResult:
        """Install as a client does."""
        return install(self.site.source(), self.site.root, data, app=APP, **wish)  # type: ignore[arg-type]
