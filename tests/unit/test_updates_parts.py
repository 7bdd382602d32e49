"""The pure parts of the update endpoints: settings, discretion, progress, choice of a build."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backend_world import NO_GPU

from lading.errors import Busy, ConfigError, DiskFull, HostUnfit, LadingError, NotInstalled, SourceUnreachable
from lading.host.choice import Candidate
from lading.host.record import Gpu, GpuFacts, HostFacts
from lading.host.resolve import resolve
from lading.progress import ProgressEvent
from lading.store.builds import Build, Builds
from lading.store.origin import Origin, write_origin
from lading_server.updates import refusals
from lading_server.updates.discretion import discreet
from lading_server.updates.feed import MOST, Feed, TooManyFollowers
from lading_server.updates.records import Failure, Progress, Wanted
from lading_server.updates.service import choose
from lading_server.updates.settings import Said, SettingsInvalid, embedded, installed, repository, take
from lading_server.updates.view import builds_of, host_of

FAILURE = Failure(kind="SourceUnreachable", what="it does not answer", at=1)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_without_variables_the_server_is_not_managed() -> None:
    found = take({})
    assert (found.data, found.control, found.token, found.auto_update, found.origins) == (None, None, None, True, ())
    assert repository(found.said).complete is False


def test_every_variable_arrives_and_secrets_leave_the_environment(tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(b"{}")
    environment = {
        "LADING_DATA": str(tmp_path),
        "LADING_SOURCE": "https://a.example/x | https://b.example/y|C:\\releases",
        "LADING_ROOT": str(root),
        "LADING_APP": "my-server",
        "LADING_CHANNEL": "beta",
        "LADING_AUTO_UPDATE": "0",
        "LADING_CONTROL_URL": "http://127.0.0.1:1",
        "LADING_CONTROL_TOKEN": "control-secret",
        "LADING_FALLBACK_REASON": "the CUDA build did not start",
        "LADING_TOKEN": "token-secret",
        "LADING_ALLOWED_HOSTS": "Server.lan, other",
        "LADING_ALLOWED_ORIGINS": "https://App.example.org/",
        "PATH": "/bin",
    }

    found = take(environment)

    assert found.data == tmp_path
    assert repository(found.said).sources == ("https://a.example/x", "https://b.example/y", "C:\\releases")
    assert repository(found.said) == repository(Said(
        sources=("https://a.example/x", "https://b.example/y", "C:\\releases"), root=b"{}", app="my-server",
        channel="beta",
    ))  # fmt: skip
    assert found.auto_update is False
    assert found.control is not None
    assert found.token is not None
    assert found.token.get_secret_value() == "token-secret"
    assert (found.hosts, found.origins) == (("server.lan", "other"), ("https://app.example.org",))
    assert found.fallback_reason == "the CUDA build did not start"
    assert "secret" not in json.dumps(environment)
    assert "secret" not in repr(found) + repr(vars(found.control))
    assert environment["LADING_DATA"] == str(tmp_path), "children may know the rest"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LADING_AUTO_UPDATE", "maybe"),
        ("LADING_ALLOWED_ORIGINS", "*"),
        ("LADING_ALLOWED_ORIGINS", "https://*.example.org"),
        ("LADING_ALLOWED_ORIGINS", "app.example.org"),
        ("LADING_ALLOWED_ORIGINS", "https://a.example/path"),
        ("LADING_ROOT", "no-such-file.json"),
        ("LADING_CONTROL_URL", "127.0.0.1:40123"),
    ],
)
def test_a_value_that_cannot_be_meant_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=name):
        take({name: value})


def test_a_control_address_without_a_token_is_no_launcher() -> None:
    assert take({"LADING_CONTROL_URL": "http://127.0.0.1:1"}).control is None


def test_what_the_build_embeds_and_what_was_installed_fill_what_nobody_said(tmp_path: Path) -> None:
    brought = tmp_path / "embedded"
    brought.mkdir()
    (brought / "repository.json").write_text('{"app": "demo", "channel": "beta", "sources": ["https://a.example"]}')
    (brought / "root.json").write_bytes(b"embedded root")
    for variant, channel in (("cpu", "stable"), ("cuda", "beta")):
        folder = tmp_path / "data" / "backends" / variant
        folder.mkdir(parents=True)
        origin = Origin(
            app="demo", channel=channel, flavor=variant, platform="linux-x86_64", sources=("https://b.example",),
            root=f"root of {variant}",
        )  # fmt: skip
        write_origin(folder / "origin.json", origin)

    assert repository(Said(channel="dev"), embedded(brought)) == repository(
        Said(sources=("https://a.example",), root=b"embedded root", app="demo", channel="dev")
    )
    assert installed(tmp_path / "data") == Said(
        sources=("https://b.example",), root=b"root of cuda", app="demo", channel="beta"
    )
    (tmp_path / "data" / "backends" / "cuda" / "origin.json").unlink()
    assert installed(tmp_path / "data").root == b"root of cpu"
    assert embedded(tmp_path / "nothing") == installed(tmp_path / "nothing") == installed(None) == Said()


def test_a_broken_embedded_repository_is_named(tmp_path: Path) -> None:
    (tmp_path / "repository.json").write_text("[")
    with pytest.raises(SettingsInvalid, match=r"repository\.json"):
        embedded(tmp_path)


# --- discretion -------------------------------------------------------------------------------------------------------

DATA = Path("/home/anna/.local/share/my-server")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{DATA} is being changed by process 4711 (lading).", ("the data directory is being changed by process 4711 "
         "(lading).")),
        (f"Nothing is installed under {DATA}.", "Nothing is installed under the data directory."),
        (f"{DATA}-2/x is old", "…/x is old"),
        (f"cannot write {DATA}/backends/cuda/current: disk full", ("cannot write the data directory/backends/cuda/"
         "current: disk full")),
        ("reading /etc/ssl/certs/ca.pem: not there.", "reading …/ca.pem: not there."),
        ("'/home/anna b/secret dir/x.json' is damaged", "'…/x.json' is damaged"),
        ("C:\\Users\\anna\\AppData\\x.zip: gone", "…/x.zip: gone"),
        ("\\\\server\\share\\x.bin cannot be read", "…/x.bin cannot be read"),
        ("https://anna:pw@host.example/a/b.tar.zst?sig=abc answered 403.", ("https://host.example/a/b.tar.zst answered "
         "403.")),
        ("see https://host.example/a/b.tar.zst.", "see https://host.example/a/b.tar.zst."),
        ("file:///home/anna/store/a.zst is cut", "…/a.zst is cut"),
        ('  File "/usr/lib/python3/site-packages/tuf/api/x.py", line 3', '  File "…/tuf/api/x.py", line 3'),
        ("/opt/server/_internal/lading/store/install.pyc", "…/lading/store/install.pyc"),
        ("read and/or write 3/4 of it at 12 MB/s / 2", "read and/or write 3/4 of it at 12 MB/s / 2"),
        ("cu126: 1,940 MB (38%)", "cu126: 1,940 MB (38%)"),
    ],
)  # fmt: skip
def test_places_on_this_machine_and_passwords_are_not_told(text: str, told: str) -> None:
    assert discreet(text, (DATA, "the data directory"), (None, "nothing")) == told


@given(st.lists(st.from_regex(r"\A[A-Za-z0-9_.-]{1,12}\Z"), min_size=2, max_size=6), st.sampled_from("/\\"))
def test_of_any_path_only_the_last_name_is_told(parts: list[str], slash: str) -> None:
    names = [f"Q{number}{part}" for number, part in enumerate(parts)]
    path = ("C:\\" if slash == "\\" else "/") + slash.join(names)
    told = discreet(f"reading {path} failed")
    assert not any(name in told.replace(names[-1], "") for name in names[:-1])


# --- progress ---------------------------------------------------------------------------------------------------------


def fetched(done: int, total: int | None, kind: str = "progress", phase: str = "fetching", share: float = 0) -> (
    ProgressEvent
):  # fmt: skip
    return ProgressEvent.model_validate(
        {"kind": kind, "phase": phase, "done": done, "total": total, "share": share, "message": f"{phase} {done}"}
    )


async def collected(states: AsyncGenerator[Progress | None, None]) -> list[Progress | None]:
    return [state async for state in states]


@pytest.mark.proves("S0-18")
def test_bytes_of_several_downloads_add_up_and_never_go_back() -> None:
    async def run() -> None:
        feed = Feed()
        feed.begin("download", "asking")
        seen = []
        for event in (
            fetched(0, 100, "begin", "patch from 0.1.0"),
            fetched(100, 100, "end", "patch from 0.1.0", 0.2),
            fetched(0, 3, "begin", "linking", 0.3).model_copy(update={"unit": "files"}),
            fetched(0, 1000, "begin", share=0.3),
            fetched(400, 1000, share=0.5),
            fetched(300, 1000, share=0.4),  # nothing sends this; it must do no harm
            fetched(1000, 1000, "end", share=0.99),
            fetched(7, None, "begin", share=0.99),
            fetched(9, None, share=0.99),
        ):
            feed.tell(event)
            seen.append(feed.now)
        assert [(one.current, one.total) for one in seen] == [
            (0, 100), (100, 100), (100, 100), (100, 1100), (500, 1100), (500, 1100), (1100, 1100), (1107, 1107),
            (1109, 1109),
        ]  # fmt: skip
        assert [one.status for one in seen] == ["downloading"] * 2 + ["extracting"] + ["downloading"] * 6
        shares = [one.progress for one in seen]
        assert shares == sorted(shares)
        assert max(shares) < 100
        feed.complete("done")
        assert (feed.now.status, feed.now.progress, feed.now.speed) == ("complete", 100.0, None)

    asyncio.run(run())


@pytest.mark.proves("S0-18")
@given(st.lists(st.tuples(st.integers(0, 10**9), st.none() | st.integers(0, 10**9), st.floats(0, 1), st.booleans())))
def test_whatever_is_reported_the_bar_never_goes_back_nor_beyond_its_end(
    reported: list[tuple[int, int | None, float, bool]],
) -> None:
    feed = Feed()
    feed.begin("download", "")
    before = feed.now
    for done, total, share, end in reported:
        feed.tell(fetched(done, total, "end" if end else "progress", share=share))
        now = feed.now
        assert now.current >= before.current
        assert now.progress >= before.progress
        assert now.total is None or now.current <= now.total
        assert before.total is None or (now.total is not None and now.total >= before.total)
        before = now


@pytest.mark.proves("S0-07", "X-35")
def test_who_comes_after_the_end_gets_the_last_word_and_no_more() -> None:
    async def run() -> None:
        feed = Feed()
        feed.begin("download", "")
        feed.failed(FAILURE)
        for _ in range(2):
            with feed.follower() as states:
                (only,) = await collected(states)
            assert only is not None
            assert (only.status, only.error, only.failure) == ("error", FAILURE.what, FAILURE)
        assert feed.followers == 0

    asyncio.run(run())


@pytest.mark.proves("X-35")
def test_a_slow_follower_gets_the_latest_state_and_the_last_word_and_holds_no_queue() -> None:
    async def run() -> None:
        feed = Feed()
        feed.begin("download", "")
        with feed.follower() as states:
            assert (await anext(states)) == feed.now
            for done in range(10_000):
                feed.tell(fetched(done, 10_000))
            latest = await anext(states)
            assert latest is not None
            assert latest.current == 9_999
            feed.complete("done")
            feed.begin("update", "the next change")  # before the follower looked again
            (last,) = await collected(states)
            assert last is not None
            assert (last.status, last.job) == ("complete", "download")

    asyncio.run(run())


@pytest.mark.proves("X-35")
def test_while_nothing_happens_there_are_heartbeats_and_who_leaves_is_forgotten() -> None:
    async def run() -> None:
        feed = Feed(heartbeat=0.01)
        with feed.follower() as states:
            assert (await anext(states)) == Progress()
            assert [await anext(states) for _ in range(3)] == [None] * 3
            assert feed.followers == 1
        assert feed.followers == 0

    asyncio.run(run())


@pytest.mark.proves("X-35")
def test_only_so_many_may_follow() -> None:
    async def run() -> None:
        feed = Feed()
        opened = [feed.follower() for _ in range(MOST)]
        for one in opened:
            one.__enter__()
        with pytest.raises(TooManyFollowers), feed.follower():
            pass
        opened[0].__exit__(None, None, None)
        with feed.follower():
            assert feed.followers == MOST

    asyncio.run(run())


def test_a_server_that_stops_ends_its_streams() -> None:
    async def run() -> None:
        feed = Feed()
        with feed.follower() as states:
            await anext(states)
            feed.close()
            assert await collected(states) == []

    asyncio.run(run())


def test_an_earlier_servers_failure_is_shown_only_while_nothing_newer_happened() -> None:
    feed = Feed()
    feed.recall(FAILURE)
    assert feed.now.failure == FAILURE
    feed.begin("download", "")
    feed.complete("done")
    feed.recall(FAILURE)
    assert feed.now.status == "complete"


# --- which build ------------------------------------------------------------------------------------------------------

GPU = HostFacts(
    platform="linux-x86_64", system="Linux 6", libc="glibc", glibc="2.36", cpus=2, memory=8 * 2**30,
    gpu=GpuFacts(
        source="simulated", driver="550.54.15", cuda="12.4",
        gpus=(Gpu(index=0, name="NVIDIA H200", uuid="GPU-1", capability="9.0", memory=150 * 10**9),),
    ),
)  # fmt: skip


def offered(facts: HostFacts, *flavors: str) -> Builds:
    drivers = {"cu126": "525.60.13", "cu130": "580.65.06"}
    candidates = [
        Candidate(flavor=one, version="0.1.0", cuda=f"{one[2:4]}.{one[4]}", driver=drivers[one], archs=("sm_90",))
        for one in flavors
    ]
    builds = tuple(Build(flavor=one, version="0.1.0", label=f"{one}-v1", archive_bytes=5) for one in flavors)
    return Builds(builds=builds, resolution=resolve(facts, candidates))


def test_the_build_that_fits_is_taken_unless_one_is_named() -> None:
    builds = offered(GPU, "cu126", "cu130")
    assert choose(builds, Wanted()) == "cu126"
    assert choose(builds, Wanted(flavor="cu130")) == "cu130"
    with pytest.raises(ConfigError, match="cu128"):
        choose(builds, Wanted(flavor="cu128"))
    shown = {build.flavor: (build.fits, build.chosen) for build in builds_of(builds) or []}
    assert shown == {"cu126": ("fits", True), "cu130": ("no", False)}
    host = host_of(GPU, builds)
    assert (host.fits, host.driver, [gpu.name for gpu in host.gpus]) == ("fits", "550.54.15", ["NVIDIA H200"])


def test_where_none_fits_it_is_told_why_and_what_helps_and_force_takes_the_most_modest() -> None:
    builds = offered(NO_GPU, "cu126", "cu130")
    with pytest.raises(HostUnfit, match="There is no NVIDIA driver"):
        choose(builds, Wanted())
    assert choose(builds, Wanted(force=True)) == "cu126"
    host = host_of(NO_GPU, builds)
    assert (host.fits, host.why) == ("no", "There is no NVIDIA driver.")
    assert host.remedies


def test_a_repository_without_any_cuda_build_is_no_crash() -> None:
    builds = offered(GPU)
    for wanted in (Wanted(), Wanted(force=True)):
        with pytest.raises(HostUnfit, match="No CUDA build is offered"):
            choose(builds, wanted)
    assert host_of(GPU, builds).fits == "no"


def test_before_the_repository_was_asked_only_a_machine_without_a_gpu_is_judged() -> None:
    assert (host_of(NO_GPU, None).fits, host_of(GPU, None).fits) == ("no", None)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Busy("b"), 409, "busy"),
        (NotInstalled("n"), 404, "not-installed"),
        (DiskFull("d"), 507, "disk-full"),
        (HostUnfit("h"), 409, "host-unfit"),
        (SourceUnreachable("s"), 502, "repository-failed"),
        (ConfigError("c"), 409, "no-such-release"),
        (LadingError("l"), 500, "internal-error"),
    ],
)
def test_errors_of_the_client_become_problems(error: LadingError, status: int, code: str) -> None:
    found = refusals.of_client(error, str.upper)
    assert (found.status, found.code, found.detail) == (status, code, error.what.upper())


def test_a_bug_is_told_as_one_without_its_text() -> None:
    found = refusals.failure_of(RuntimeError("/home/anna/secret"), str)
    assert found.kind == "RuntimeError"
    assert "secret" not in found.what
