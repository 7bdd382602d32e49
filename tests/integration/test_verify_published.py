"""Verifying what was published: every kind of damage is told by the right check, and only where it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from tests.doubles.github import Asset, GitHubDouble, running
from tests.doubles.places import PREFIX, Place
from tests.doubles.s3_client import plain_client
from tests.packed_release import APP, ENTRY, Files, Shop, program
from tests.range_server import Answer, RangeServer, serving

from lading.cli.main import main
from lading.errors import DiskFull, RootInvalid
from lading.host.record import GpuFacts, HostFacts
from lading.manifest.github_layout import GitHubRepository
from lading.publish.folder import FolderDestination
from lading.publish.github import GitHubDestination
from lading.publish.publisher import publish
from lading.sign.clock import system_clock
from lading.verify import Check, Verification
from lading.verify.published import verify_published
from lading.verify.published_checks import RULES, Mirror, PublishedWish

HOST = HostFacts(
    platform="linux-x86_64", system="Linux", cpus=2, gpu=GpuFacts(source="none", reason="no_driver", detail="none")
)
CORE: Files = {ENTRY: program("two"), "_internal/a.pyc": os.urandom(30_000)}
LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(60_000)}
LIBS_FOLDER = "assets/libs/cu126-v1"
VOLUME = f"{LIBS_FOLDER}/{APP}-libs-cu126-v1-linux-x86_64.tar.zst.002"
NAME = "owner/name"
NAMES = tuple(rule.name for rule in RULES)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Two versions with the same libs, in several volumes, with a patch."""
    made = Shop(tmp_path_factory.mktemp("shop"), volume=25_000)
    made.release("0.1.0", {**CORE, ENTRY: program("one")}, LIBS)
    shutil.copytree(made.store, made.folder / "older")
    made.release("0.2.0", CORE, LIBS, patches=["0.1.0"])
    return made


@dataclass
class Mirrors:
    """Copies of the repository, each behind a server of its own."""

    shop: Shop
    folder: Path
    stack: ExitStack
    servers: dict[str, RangeServer] = field(default_factory=dict)

    def add(self, name: str, source: Path | None = None) -> RangeServer:
        shutil.copytree(source or self.shop.store, self.folder / name)
        self.servers[name] = self.stack.enter_context(serving(self.folder / name))
        return self.servers[name]

    def verify(self, **wish: object) -> dict[str, Verification]:
        mirrors = [Mirror(name=name, address=server.url) for name, server in self.servers.items()]
        reports = verify_published(mirrors, wish_of(self.shop, **wish), host=HOST)
        return dict(zip(self.servers, reports, strict=True))


def wish_of(shop: Shop, **changes: object) -> PublishedWish:
    return PublishedWish(**{"root": shop.root, "app": APP, **changes})  # type: ignore[arg-type]


@pytest.fixture
def mirrors(shop: Shop, tmp_path: Path) -> Iterator[Mirrors]:
    with ExitStack() as stack:
        yield Mirrors(shop, tmp_path, stack)


def check(report: Verification, name: str) -> Check:
    return next(item for item in report.checks if item.name == name)


def failures(report: Verification) -> dict[str, str]:
    return {item.name: item.reason for item in report.of("fail")}


def test_sound_mirrors_pass_every_check_and_a_client_installs_from_each(mirrors: Mirrors) -> None:
    first, second = mirrors.add("first"), mirrors.add("second")

    reports = mirrors.verify()

    assert all(report.passed for report in reports.values()), {name: failures(r) for name, r in reports.items()}
    for report in reports.values():
        assert tuple(item.name for item in report.checks) == NAMES
        assert {item.name for item in report.of("skipped")} == {"extra-files"}, "a web server lists nothing"
        assert report.subject.version == "0.2.0"
        assert check(report, "install").evidence["installs"] == 1
        assert check(report, "signatures").evidence["versions"] == {
            "root": 1, "timestamp": 2, "snapshot": 2, "targets": 2,
        }  # fmt: skip
    objects = {path for path in first.asked("assets/") if "/0.1.0/" not in path}
    there = {path.relative_to(mirrors.shop.store).as_posix() for path in mirrors.shop.store.rglob("assets/*/*/*")}
    assert objects == {path for path in there if "/0.1.0/" not in path}, "every object of the version, patches included"
    assert {path for path, _ in first.requests} == {path for path, _ in second.requests}


def harm(folder: Path, path: str, change: Callable[[bytes], bytes]) -> None:
    file = folder / path
    file.write_bytes(change(file.read_bytes()))


def flipped(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


@pytest.mark.parametrize(
    ("path", "change", "failing", "says"),
    [
        pytest.param(VOLUME, None, {"objects", "install"}, f"{VOLUME} is missing", id="a volume is missing"),
        pytest.param(VOLUME, flipped, {"objects", "install"}, f"{VOLUME} has SHA-256", id="a byte of it is altered"),
        pytest.param(
            VOLUME, lambda data: data[:-7], {"objects", "install"}, "bytes, the release says", id="it is short"
        ),
        pytest.param(VOLUME, lambda data: data + b"x", {"objects", "install"}, "more than", id="it is longer"),
        pytest.param(
            f"assets/core/0.2.0/{APP}-core-0.2.0-cu126-linux-x86_64-from-0.1.0.patch",
            flipped,
            {"objects"},
            ".patch has SHA-256",
            id="a patch is altered, and clients do without",
        ),
        pytest.param(f"{VOLUME}.sha256", None, {"objects"}, ".sha256 is missing", id="a checksum file is missing"),
        pytest.param(
            f"{VOLUME}.sha256",
            lambda data: b"0" * 64 + data[64:],
            {"checksum-files"},
            ".sha256 does not say what the release says",
            id="a checksum file is wrong",
        ),
        pytest.param(
            f"{LIBS_FOLDER}/{APP}-libs-cu126-v1-linux-x86_64.json",
            lambda data: data.replace(b'"fast"', b'"slow"'),
            {"objects"},
            ".json has SHA-256",
            id="a component's record is altered",
        ),
        pytest.param(
            f"{LIBS_FOLDER}/{APP}-libs-cu126-v1-linux-x86_64.index.zst",
            None,
            {"objects", "install"},
            ".index.zst is missing",
            id="an index is missing",
        ),
    ],
)
def test_damage_on_one_mirror_is_told_there_and_nowhere_else(
    mirrors: Mirrors, path: str, change: Callable[[bytes], bytes] | None, failing: set[str], says: str
) -> None:
    mirrors.add("sound")
    folder = mirrors.add("damaged").folder
    if change is None:
        (folder / path).unlink()
    else:
        harm(folder, path, change)

    reports = mirrors.verify()

    assert reports["sound"].passed, failures(reports["sound"])
    found = failures(reports["damaged"])
    assert set(found) == failing, found
    assert says in " ".join(found.values())


def test_a_mirror_that_was_left_behind_is_told_although_it_is_signed_and_its_libs_are_whole(mirrors: Mirrors) -> None:
    mirrors.add("fresh")
    mirrors.add("behind", mirrors.shop.folder / "older")

    reports = mirrors.verify()

    assert reports["fresh"].passed
    found = failures(reports["behind"])
    assert set(found) == {"agreement", "release-listed", "objects"}
    assert "timestamp is version 1 here, 2 at fresh" in found["agreement"]
    assert "does not list releases/demo-app/0.2.0/" in found["release-listed"]
    assert "assets/core/0.2.0/" in found["objects"]
    assert "libs" not in json.dumps(check(reports["behind"], "objects").evidence)
    assert check(reports["behind"], "install").status == "skipped", "the version is not offered there"


def test_a_mirror_whose_cache_is_slow_is_waited_for(mirrors: Mirrors) -> None:
    mirrors.add("fresh")
    slow = mirrors.add("slow", mirrors.shop.folder / "older")
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            shutil.copytree(mirrors.shop.store, slow.folder, dirs_exist_ok=True)

    places = [Mirror(name=name, address=server.url) for name, server in mirrors.servers.items()]
    reports = verify_published(places, wish_of(mirrors.shop, wait=100.0), host=HOST, sleep=sleep)

    assert all(report.passed for report in reports)
    assert pauses == [15.0, 15.0]


def test_waiting_ends_and_the_verdict_is_what_is_there_then(mirrors: Mirrors) -> None:
    mirrors.add("fresh")
    mirrors.add("behind", mirrors.shop.folder / "older")
    pauses: list[float] = []
    places = [Mirror(name=name, address=server.url) for name, server in mirrors.servers.items()]

    reports = verify_published(places, wish_of(mirrors.shop, wait=40.0, installs=False), host=HOST, sleep=pauses.append)

    assert pauses == [15.0, 15.0, 10.0]
    assert [report.passed for report in reports] == [True, False]


def whole_instead(answer: Answer) -> None:
    if answer.status == 206:
        answer.status, answer.headers = 200, {"ETag": answer.headers["ETag"]}
        answer.body = b"x" * 50_000


def other_part(answer: Answer) -> None:
    if answer.status == 206:
        answer.headers["Content-Range"] = "bytes 0-9/10"


def other_tags(answer: Answer) -> None:
    if answer.status == 200:
        answer.headers["ETag"] = '"another server"'


def kept_for_ever(answer: Answer) -> None:
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"


def kept_for_a_day(answer: Answer) -> None:
    answer.headers["Cache-Control"] = "public, max-age=60, s-maxage=86400"


@pytest.mark.parametrize(
    ("fault", "failing", "says"),
    [
        (whole_instead, {"ranges", "install"}, "there is no Range support"),
        (other_part, {"ranges", "install"}, "Content-Range 'bytes 0-9/10'"),
        (other_tags, {"ranges"}, "the servers do not agree"),
        (kept_for_ever, {"caching"}, "must not be immutable"),
        (kept_for_a_day, {"caching"}, "may be cached for 86400 s"),
    ],
)
def test_a_server_that_clients_cannot_use_is_told(
    mirrors: Mirrors, fault: Callable[[Answer], None], failing: set[str], says: str
) -> None:
    server = mirrors.add("odd")
    server.faults.append(fault)

    report = mirrors.verify()["odd"]

    assert set(failures(report)) == failing
    assert says in " ".join(failures(report).values())


def test_bytes_that_are_wrong_in_ranges_alone_are_found_by_the_install(mirrors: Mirrors) -> None:
    def corrupt(answer: Answer) -> None:
        if answer.status == 206 and "libs" in answer.path:
            answer.body = bytes(len(answer.body))

    mirrors.add("edge").faults.append(corrupt)

    assert set(failures(mirrors.verify()["edge"])) == {"install"}


def test_a_server_without_head_and_without_tags_is_usable_and_it_is_told(mirrors: Mirrors) -> None:
    server = mirrors.add("plain")

    def plain(answer: Answer) -> None:
        answer.headers.pop("ETag", None)

    server.faults.append(plain)
    report = mirrors.verify()["plain"]

    assert report.passed
    assert "no ETag and no date" in check(report, "ranges").reason
    assert "no Cache-Control" in check(report, "caching").reason


def test_a_mirror_that_nobody_answers_at_fails_alone(mirrors: Mirrors) -> None:
    mirrors.add("sound")
    places = [
        Mirror(name="sound", address=mirrors.servers["sound"].url),
        Mirror(name="nowhere", address=str(mirrors.folder / "no such folder")),
    ]

    sound, nowhere = verify_published(places, wish_of(mirrors.shop, installs=False), host=HOST)

    assert sound.passed
    assert set(failures(nowhere)) == {"reachable"}
    assert check(nowhere, "reachable").evidence["error"] == "SourceUnreachable"
    assert check(nowhere, "objects").reason == "because reachable failed"


def test_metadata_of_another_publisher_is_refused(mirrors: Mirrors, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    other.release("0.2.0", CORE, LIBS)
    mirrors.add("ours")
    mirrors.add("theirs", other.store)

    reports = mirrors.verify()

    assert reports["ours"].passed
    assert check(reports["theirs"], "signatures").evidence["error"] == "SignatureInvalid"
    assert check(reports["theirs"], "install").status == "skipped"


def test_a_repository_that_has_expired_fails(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.release("0.1.0", CORE, clock=lambda: system_clock() - timedelta(days=40))

    (report,) = verify_published([Mirror(name="old", address=str(shop.store))], wish_of(shop), host=HOST)

    assert check(report, "signatures").evidence["error"] == "MetadataExpired"
    assert "no destination says what was published" in check(report, "release-known").reason


def test_a_version_that_is_nowhere_fails_everywhere(mirrors: Mirrors) -> None:
    mirrors.add("first")

    report = mirrors.verify(version="9.9.9")["first"]

    assert failures(report) == {"release-known": "The channel stable of demo-app has no version 9.9.9."}


def test_an_older_version_can_be_named(mirrors: Mirrors) -> None:
    mirrors.add("first")

    report = mirrors.verify(version="0.1.0")["first"]

    assert report.passed
    assert report.subject.version == "0.1.0"
    assert not mirrors.servers["first"].asked("assets/core/0.2.0")


def test_files_that_no_release_names_are_told_and_those_of_other_releases_are_not(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(shop.store, folder)
    (folder / LIBS_FOLDER / f"{APP}-libs-cu126-v1-linux-x86_64.tar.zst.exe").write_bytes(b"MZ")

    (report,) = verify_published([Mirror(name="it", address=str(folder))], wish_of(shop, version="0.1.0"), host=HOST)

    assert report.passed, "a client never looks at it"
    assert check(report, "extra-files").evidence["extra"] == [
        f"{LIBS_FOLDER}/{APP}-libs-cu126-v1-linux-x86_64.tar.zst.exe"
    ]


def test_a_folder_is_read_and_not_asked_for_ranges(shop: Shop) -> None:
    (report,) = verify_published([Mirror(name="it", address=str(shop.store))], wish_of(shop), host=HOST)

    assert report.passed
    assert {item.name for item in report.of("skipped")} == {"agreement", "ranges", "caching"}


def test_too_little_room_ends_it_before_an_archive_is_fetched(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mirrors.add("first")
    monkeypatch.setattr("lading.verify.published.free_room", lambda _: 50_000)

    with pytest.raises(DiskFull, match=r"An install needs .* MB in .*; 0 MB are free"):
        mirrors.verify()
    assert not server.asked("assets/")
    assert mirrors.verify(installs=False)["first"].passed


def test_a_root_that_is_none_is_refused_before_anything_is_asked(mirrors: Mirrors) -> None:
    server = mirrors.add("first")

    with pytest.raises(RootInvalid):
        mirrors.verify(root=b"{}")
    assert not server.requests


# --- by the command ---------------------------------------------------------------------------------------------------


def command(*words: str, code: int, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--published", *words])
    assert ended.value.code == code
    return capsys.readouterr().out


@pytest.fixture
def project(shop: Shop, root: Path, tmp_path: Path) -> Path:
    """A project with two destinations: a folder, and a bucket whose public address is a server's."""
    folder = tmp_path / "project"
    shutil.copytree(root / "manifests", folder / "manifests")
    version = folder / "server" / "lading_server"
    version.mkdir(parents=True)
    (version / "_version.py").write_text('__version__ = "0.2.0"\n')
    shutil.copytree(shop.store, folder / "out" / "store")
    (folder / "root.json").write_bytes(shop.root)
    return folder


def destinations(project: Path, public: str | None) -> None:
    line = f"    public: {public}\n" if public else ""
    (project / "manifests" / "destinations.yaml").write_text(
        "schema: lading/destinations/1\ndestinations:\n  local:\n    kind: folder\n    path: out/store\n"
        f"  r2:\n    kind: s3\n    preset: r2\n    bucket: some-releases\n{line}"
    )


def test_the_command_names_the_sound_and_the_unsound_and_fails(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    words = ("local", "r2", "--root", str(project / "root.json"), "--app", APP, "--project", str(project))
    with serving(project / "out" / "store") as server:
        destinations(project, server.url)
        assert "sound" in command(*words, code=0, capsys=capsys)
        server.faults.append(kept_for_ever)
        out = command(*words, "--no-install", "--json", code=70, capsys=capsys)

    result = json.loads(out)
    assert result["sound"] == [f"local ({project / 'out' / 'store'})"]
    assert result["unsound"] == [f"r2 ({server.url})"]
    assert [report["subject"]["kind"] for report in result["verifications"]] == ["published", "published"]
    assert page.read_text("utf-8").count("**passed:") == 3
    assert page.read_text("utf-8").count("**FAILED:") == 1


def test_the_command_needs_a_root_and_an_address(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    destinations(project, None)
    root = ("--root", str(project / "root.json"))
    where = ("--project", str(project))
    command("local", *where, code=2, capsys=capsys)
    command(*root, *where, code=2, capsys=capsys)
    command(f"{project / 'out' / 'store'}/", *root, "--project", str(project / "nowhere"), code=2, capsys=capsys)
    out = command("r2", *root, *where, "--json", code=19, capsys=capsys)
    assert "does not say under which address clients read the bucket some-releases" in json.loads(out)["what"]
    out = command("elsewhere", *root, *where, "--json", code=10, capsys=capsys)
    assert "There is no destination 'elsewhere'" in json.loads(out)["what"]


# --- on an object store and on GitHub ---------------------------------------------------------------------------------


def test_a_bucket_is_verified_by_its_public_address(shop: Shop, swift_place: Place) -> None:
    file = next(shop.packed("0.2.0").glob("*.release.json"))
    publish(shop.packed("0.2.0"), file, swift_place.open(), shop.keys)
    client = plain_client(swift_place.store, swift_place.key, swift_place.secret)
    mirror = Mirror(name="bucket", address=f"{swift_place.public}/{PREFIX}")
    root = swift_place.contents()["metadata/1.root.json"]

    (report,) = verify_published([mirror], wish_of(shop, root=root), host=HOST)
    assert report.passed, failures(report)
    assert check(report, "ranges").status == check(report, "caching").status == "pass"

    client.put_object(Bucket=swift_place.bucket, Key=f"{PREFIX}/{VOLUME}", Body=b"other")
    client.delete_object(Bucket=swift_place.bucket, Key=f"{PREFIX}/{VOLUME.replace('.002', '.001')}")
    (report,) = verify_published([mirror], wish_of(shop, root=root), host=HOST)
    found = failures(report)
    assert set(found) == {"objects", "install"}
    problems = check(report, "objects").evidence["problems"]
    assert isinstance(problems, list)
    assert [str(line).rpartition("/")[2].partition(" ")[2].partition(" ")[0] for line in problems] == ["is", "has"]


@pytest.fixture
def double(shop: Shop) -> Iterator[GitHubDouble]:
    with running() as running_double:
        running_double.add_repo(NAME)
        destination = GitHubDestination(GitHubRepository(name=NAME, web=running_double.web), "t0ken")
        file = next(shop.packed("0.2.0").glob("*.release.json"))
        publish(shop.packed("0.2.0"), file, destination, shop.keys)
        yield running_double


def on_github(double: GitHubDouble, shop: Shop) -> Verification:
    mirror = Mirror(name="github", address=f"github:{double.web}/{NAME}")
    root = double.repos[NAME].git.file("lading-metadata", "metadata/1.root.json")
    (report,) = verify_published([mirror], wish_of(shop, root=root), host=HOST)
    return report


def asset(double: GitHubDouble, part: str) -> tuple[dict[str, Asset], Asset]:
    for release in double.repos[NAME].releases.values():
        for found in release.assets.values():
            if found.name.endswith(part):
                return release.assets, found
    raise AssertionError(part)


def test_a_repository_on_github_is_verified_without_a_token(double: GitHubDouble, shop: Shop) -> None:
    before = len(double.requests)
    report = on_github(double, shop)

    assert report.passed, failures(report)
    assert check(report, "extra-files").reason == "no other files beside them"
    assert {item.name for item in report.of("skipped")} == {"agreement"}
    assert len(double.requests) - before == 4, "the API is asked for two listings, and for nothing else"


@pytest.mark.parametrize("how", ["missing", "altered", "extra", "tag"])
def test_damage_on_github_is_told(double: GitHubDouble, shop: Shop, how: str) -> None:
    assets, found = asset(double, "libs-cu126-v1-linux-x86_64.tar.zst.002")
    if how == "missing":
        del assets[found.name]
    elif how == "altered":
        found.data = flipped(bytes(found.data or b""))
    elif how == "extra":
        assets["surprise.exe"] = Asset(999, "surprise.exe", 2, "uploaded", None, b"MZ")
    else:
        number = next(n for n, item in double.repos[NAME].releases.items() if found.name in item.assets)
        del double.repos[NAME].releases[number]

    report = on_github(double, shop)

    if how == "extra":
        assert report.passed
        assert check(report, "extra-files").evidence["extra"] == [f"{LIBS_FOLDER}/surprise.exe"]
        return
    assert set(failures(report)) >= {"objects", "install"}
    assert f"{LIBS_FOLDER}/" in failures(report)["objects"]


def test_two_folders_of_one_publication_agree(shop: Shop, tmp_path: Path) -> None:
    file = next(shop.packed("0.2.0").glob("*.release.json"))
    publish(shop.packed("0.2.0"), file, FolderDestination(tmp_path / "new"), shop.keys)
    places = [Mirror(name="old", address=str(shop.store)), Mirror(name="new", address=str(tmp_path / "new"))]

    old, new = verify_published(places, wish_of(shop, installs=False), host=HOST)

    assert old.passed
    assert set(failures(new)) == {"agreement"}, "a client that comes from the old one takes it for a rollback"
