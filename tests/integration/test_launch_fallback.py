"""A launcher with real processes: which build runs, what becomes of one that fails, and that the CPU build serves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.integration.launch_place import TIMES, Place, bare_host, gpu_host, health
from tests.packed_release import ENTRY

from lading.errors import NotInstalled, PortTaken, ServerUnhealthy
from lading.launch.launcher import Launcher
from lading.launch.port import free_port, is_free
from lading.launch.status import LauncherStatus
from lading.store.preference import read_preference, write_preference
from lading.store.removal import uninstall
from lading.store.status import status

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in server is started by its first line")


def ready_on(place: Place, variant: str, *, calls: list[str] | None = None) -> LauncherStatus:
    """Start a launcher, see which variant gets ready, and stop it."""
    with place.launcher() as launcher:
        found = launcher.start()
        assert (found.phase, found.backend) == ("ready", variant)
        assert health(found)["backend_variant"] == variant
    if calls is not None:
        assert place.calls() == calls
    return found


# --- which build ------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-26", "S0-27", "S1-21")
def test_a_valid_cuda_version_proves_itself_once_and_is_started_in_its_own_folder(place: Place) -> None:
    found = ready_on(place, "cuda", calls=["cuda version", "cuda selftest", "cuda serve"])
    assert (found.installed, found.reason) == (place.cuda.name, None)
    with place.launcher() as launcher:
        told = health(launcher.start())
    assert place.calls() == ["cuda serve"], "what is known of this version under this driver is not asked again"
    assert Path(told["cwd"]) == place.cuda.tree
    assert told["told"]["LADING_DATA"] == str(place.data)
    assert "LADING_FALLBACK_REASON" not in told["told"]
    place.host = gpu_host("580.65.06")
    ready_on(place, "cuda", calls=["cuda version", "cuda selftest", "cuda serve"])


@pytest.mark.proves("S0-28")
def test_a_missing_or_broken_cpu_build_does_not_keep_cuda_from_starting(place: Place) -> None:
    cpu = next((place.data / "backends/cpu/versions").iterdir())
    (cpu / "tree" / ENTRY).unlink()
    ready_on(place, "cuda")
    uninstall(place.data, "cpu")
    ready_on(place, "cuda")


@pytest.mark.proves("S0-27", "X-24")
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("version-garbage", "printed 'garbage"),
        ("version-fails", "ended with status 3"),
        ("version-silent", "not a name and a version"),
        ("version-hangs", "did not answer --version in 0.5 s"),
        ("selftest-fails", "matmul: off by 0.3"),
        ("garbage", "it printed no JSON"),
        ("crash", "exit code 7 before it was ready. The GPU's memory is full"),
        ("no-kernel", "The build has no code for this GPU"),
        ("unwell", "reports that it is not well: status 'broken'"),
        ("wrong-id", "answers as instance 'somebody-else'"),
    ],
)
def test_a_cuda_build_that_fails_is_set_aside_and_the_cpu_build_serves_on_the_same_port(
    place: Place, mode: str, words: str
) -> None:
    place.behave(cuda=mode)
    port = free_port("127.0.0.1")
    times = TIMES if mode != "version-hangs" else replace(TIMES, probe=0.5)
    with place.launcher(times, port=port) as launcher:
        found = launcher.start()
        told = health(found)
        assert found.url == f"http://127.0.0.1:{port}"
        assert (found.backend, told["backend_variant"]) == ("cpu", "cpu")
        assert words in (found.reason or "")
        assert told["told"]["LADING_FALLBACK_REASON"] == found.reason
        assert found.set_aside is not None
        assert found.set_aside.name == place.cuda.name
    place.calls()
    ready_on(place, "cpu", calls=["cpu serve"])  # it is not tried again


@pytest.mark.proves("X-24")
def test_a_cuda_build_that_hangs_is_ended_at_the_deadline_with_its_workers(place: Place, tmp_path: Path) -> None:
    place.behave(cuda="hang")
    times = replace(TIMES, healthy=0.7)
    with place.launcher(times) as launcher:
        found = launcher.start()
    assert found.backend == "cpu"
    assert "was not ready after 0.7 s" in (found.reason or "")


@pytest.mark.proves("S1-22")
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("_internal/deep/er.pyc", "_internal/deep/er.pyc (missing)"),
        ("_internal/nvidia/cublas/libcublas.so.12", "libcublas.so.12 (missing)"),
        ("truncated", "libcublas.so.12 (wrong size)"),
        ("written to", "_internal/deep/er.pyc (altered)"),
        (ENTRY, f"its executable {ENTRY} is missing"),
        ("not executable", "may not be run"),
        ("libs index", "libs.index.zst is missing, or is not that of libs cu126-v1"),
        ("release", "release.json is missing"),
        ("label", "it has libs cu126-v2, and its release needs cu126-v1"),
        ("marker", "its records are damaged"),
    ],
)
def test_half_a_tree_is_refused_although_it_would_answer(place: Place, harm: str, words: str) -> None:
    version = place.cuda
    libs = version.tree / "_internal/nvidia/cublas/libcublas.so.12"
    if harm == "truncated":
        os.truncate(libs, 100)
    elif harm == "written to":
        (version.tree / "_internal/deep/er.pyc").write_bytes(b"DEEP" * 90)
    elif harm == "not executable":
        version.entry.chmod(0o644)
    elif harm == "libs index":
        (version.folder / "libs.index.zst").write_bytes((version.folder / "core.index.zst").read_bytes())
    elif harm == "release":
        (version.folder / "release.json").unlink()
    elif harm in {"label", "marker"}:
        marker = version.folder / ".lading-version"
        text = marker.read_text("utf-8").replace("cu126-v1", "cu126-v2") if harm == "label" else "{"
        marker.write_text(text, "utf-8")
    else:
        (version.tree / harm).unlink()
    found = ready_on(place, "cpu", calls=["cpu serve"])
    assert words in (found.reason or "")


@pytest.mark.proves("S1-09", "S0-27")
def test_a_program_that_says_another_version_than_it_was_installed_as_is_not_started(place: Place) -> None:
    with place.launcher(environment={"FAKE_VERSION": "9.9.9"}) as launcher:
        found = launcher.start()
    assert found.backend == "cpu"
    assert "it says that it is 9.9.9, and was installed as 0.1.0" in (found.reason or "")


def test_a_driver_that_is_gone_after_a_system_update_means_cpu_with_the_reason(place: Place) -> None:
    ready_on(place, "cuda")
    place.host = bare_host()
    found = ready_on(place, "cpu")
    assert "There is no NVIDIA driver" in (found.reason or "")
    assert found.set_aside is None, "nothing is wrong with the build"
    place.host = gpu_host()
    ready_on(place, "cuda")


def test_without_a_cpu_build_cuda_runs_even_where_it_does_not_fit_and_says_why(place: Place) -> None:
    uninstall(place.data, "cpu")
    place.host = bare_host()
    found = ready_on(place, "cuda")
    assert "There is no CPU build" in (found.reason or "")


def test_a_cpu_build_that_is_not_installed_can_be_named(place: Place, tmp_path: Path) -> None:
    version = next((place.data / "backends/cpu/versions").iterdir())
    loose = tmp_path / "shipped" / "cpu"
    loose.mkdir(parents=True)
    program = loose / "demo-app"
    program.write_bytes((version / "tree" / ENTRY).read_bytes())
    program.chmod(0o755)
    uninstall(place.data, "cpu")
    place.behave(cuda="crash")
    with place.launcher(cpu_build=loose) as launcher:
        found = launcher.start()
        assert (found.backend, found.installed) == ("cpu", str(loose))
        assert Path(health(found)["cwd"]) == loose


def test_without_any_build_the_error_says_how_to_get_one(place: Place) -> None:
    uninstall(place.data, "cpu")
    uninstall(place.data, "cuda")
    with place.launcher() as launcher:
        with pytest.raises(NotInstalled, match="No cuda or cpu version is installed"):
            launcher.start()
        assert launcher.status().phase == "failed"


def test_a_broken_cuda_build_alone_ends_in_an_error_with_its_last_words(place: Place) -> None:
    uninstall(place.data, "cpu")
    place.behave(cuda="crash")
    with (
        place.launcher() as launcher,
        pytest.raises(ServerUnhealthy, match=r"exit code 7(.|\n)*out of memory(.|\n)*set aside. There is no CPU build"),
    ):
        launcher.start()
    place.calls()
    with place.launcher() as launcher, pytest.raises(ServerUnhealthy, match=r"is set aside: (.|\n)*--retry"):
        launcher.start()
    assert place.calls() == []


# --- the user's choice ------------------------------------------------------------------------------------------------


@pytest.mark.proves("X-28")
def test_a_choice_is_kept_and_honoured_and_one_that_is_gone_heals(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.launcher() as launcher:
        assert launcher.start().backend == "cuda"
        assert launcher.choose("cpu").choice == "cpu"
        found = launcher.restart()
        assert (found.backend, found.reason) == ("cpu", None)
    ready_on(place, "cpu")
    uninstall(place.data, "cpu")
    found = ready_on(place, "cuda")
    assert found.reason == "the CPU build was chosen, and there is none"
    assert read_preference(place.data) == "auto"
    place.install("cpu")
    write_preference(place.data, "cuda")
    uninstall(place.data, "cuda")
    assert ready_on(place, "cpu").reason == "CUDA was chosen, and none is installed"
    assert read_preference(place.data) == "auto"
    place.install("cuda")
    monkeypatch.setenv("FORCE_CPU", "1")
    assert ready_on(place, "cpu").forced == "FORCE_CPU"


@pytest.mark.proves("X-28")
def test_who_chooses_cuda_gets_it_also_where_it_is_not_known_to_run(place: Place) -> None:
    place.host = bare_host()
    write_preference(place.data, "cuda")
    found = ready_on(place, "cuda", calls=["cuda version", "cuda serve"])
    assert found.reason is None


@pytest.mark.proves("S0-33")
def test_deleting_cuda_leads_to_cpu_after_a_restart_and_installing_it_to_cuda(place: Place) -> None:
    with place.launcher() as launcher:
        first = launcher.start()
        assert health(first)["backend_variant"] == "cuda"
        launcher.choose("cpu")
        assert health(launcher.restart())["backend_variant"] == "cpu"
        uninstall(place.data, "cuda")
        launcher.choose("auto")
        assert health(launcher.restart())["backend_variant"] == "cpu"
        place.install("cuda")
        last = launcher.restart()
        assert health(last)["backend_variant"] == "cuda"
        assert last.url == first.url


# --- set aside, and back again ----------------------------------------------------------------------------------------


@pytest.mark.proves("X-25")
def test_a_version_that_was_set_aside_comes_back_by_asking_by_a_new_version_or_by_a_repair(place: Place) -> None:
    place.behave(cuda="crash")
    with place.launcher() as launcher:
        assert launcher.start().backend == "cpu"
        assert launcher.restart().backend == "cpu"
        assert place.calls().count("cuda serve") == 1
        place.behave(cuda="ok")
        assert launcher.restart().backend == "cpu"
        assert launcher.restart(retry=True).backend == "cuda"
    place.behave(cuda="crash")
    place.calls()
    ready_on(place, "cpu", calls=["cuda serve", "cpu serve"])
    cuda = next(one for one in status(place.data).variants if one.variant == "cuda")
    assert "exit code 7" in (cuda.versions[0].aside or "")
    place.behave(cuda="ok")
    place.install("cuda")
    ready_on(place, "cuda")
    place.behave(cuda="crash")
    ready_on(place, "cpu")
    place.behave(cuda="ok")
    place.install("cuda", "0.2.0")
    ready_on(place, "cuda")


def test_choosing_cuda_by_hand_tries_it_again(place: Place) -> None:
    place.behave(cuda="crash")
    with place.launcher() as launcher:
        assert launcher.start().backend == "cpu"
        place.behave(cuda="ok")
        launcher.choose("cuda")
        found = launcher.restart()
        assert (found.backend, found.set_aside) == ("cuda", None)


def test_another_driver_lifts_what_was_set_aside(place: Place) -> None:
    place.behave(cuda="no-kernel")
    ready_on(place, "cpu")
    place.behave(cuda="ok")
    place.host = gpu_host("580.65.06")
    ready_on(place, "cuda")


# --- dying after ready ------------------------------------------------------------------------------------------------


def settled(launcher: Launcher, backend: str, starts: int) -> LauncherStatus:
    """Wait until so many servers were started, and the last one is ready."""
    assert launcher.wait(lambda state: state.phase in {"ready", "failed"} and launcher._facts.starts >= starts, 30)
    found = launcher.status()
    assert (found.phase, found.backend) == ("ready", backend), found
    return found


@pytest.mark.proves("X-24", "X-25")
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("dies-later", "ended with exit code 9 while it was running"),
        ("sick-later", "is not well any more: status 'broken'"),
        ("freezes-later", "is not well any more: "),
    ],
)
def test_a_cuda_server_that_fails_again_and_again_after_it_was_ready_gives_way_to_cpu(
    place: Place, mode: str, words: str
) -> None:
    place.behave(cuda=mode)
    with place.launcher(replace(TIMES, bounds=replace(TIMES.bounds, deaths=2))) as launcher:
        first = launcher.start()
        assert first.backend == "cuda"
        last = settled(launcher, "cpu", 3)
        assert last.url == first.url
        assert words in (last.reason or "")
    assert [line for line in place.calls() if line.endswith("serve")] == ["cuda serve", "cuda serve", "cpu serve"]


def test_a_server_that_was_killed_once_is_started_again_on_its_port(place: Place) -> None:
    with place.launcher() as launcher:
        first = launcher.start()
        assert first.pid is not None
        psutil.Process(first.pid).kill()
        second = settled(launcher, "cuda", 2)
        assert (second.url, second.set_aside) == (first.url, None)
        assert second.pid != first.pid


def test_a_cpu_server_that_dies_too_often_ends_in_an_error(place: Place) -> None:
    write_preference(place.data, "cpu")
    place.behave(cpu="dies-later")
    with place.launcher() as launcher:
        launcher.start()
        assert launcher.wait(lambda state: state.phase == "failed", 30)
        error = launcher.status().error
        assert error is not None
        assert (error.code, "exit code 9" in error.what) == ("ServerUnhealthy", True)
    assert place.calls() == ["cpu serve"] * 3


# --- restart and ports ------------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-29", "S0-30", "S0-32")
def test_a_restart_waits_for_the_port_and_gives_back_the_same_address(place: Place) -> None:
    seen: list[LauncherStatus] = []
    launcher = Launcher(place.settings(), look=lambda: place.host, listener=seen.append)
    try:
        first = launcher.start()
        assert first.pid is not None
        second = launcher.restart()
        assert second.url == first.url
        assert second.pid != first.pid
        assert not psutil.pid_exists(first.pid)
    finally:
        launcher.close()
    ready = [status.url for status in seen if status.phase == "ready"]
    assert set(ready) == {first.url}
    phases = list(dict.fromkeys(status.phase for status in seen))
    assert phases == ["choosing", "probing", "starting", "ready", "restarting", "stopping", "stopped"]


@pytest.mark.proves("S0-30", "X-31")
def test_a_port_that_is_held_for_a_moment_is_waited_for(place: Place) -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    times = replace(TIMES, port=20)
    with place.launcher(times, port=port) as launcher:
        timer = threading.Timer(0.4, holder.close)
        timer.start()
        assert launcher.start().url == f"http://127.0.0.1:{port}"
        timer.join()


@pytest.mark.proves("S0-31", "X-31")
def test_a_restart_that_fails_says_so_names_the_strangers_and_can_be_asked_again(place: Place) -> None:
    port = free_port("127.0.0.1")
    with place.launcher(port=port) as launcher:
        launcher.start()
        launcher.stop()
        squatter = [sys.executable, "-c", f"import socket; s = socket.create_server(('127.0.0.1', {port})); input()"]
        with subprocess.Popen(squatter, stdin=subprocess.PIPE) as stranger:
            while is_free("127.0.0.1", port):
                time.sleep(0.01)
            with pytest.raises(PortTaken, match=rf"Port {port} is taken by .*process {stranger.pid}"):
                launcher.restart()
            found = launcher.status()
            assert found.phase == "failed"
            assert found.error is not None
            assert found.error.code == "PortTaken"
            assert found.set_aside is None, "the build is not to blame"
            assert stranger.poll() is None
            stranger.kill()
        assert launcher.restart().phase == "ready"


def test_many_who_ask_at_once_get_one_server(place: Place) -> None:
    with place.launcher() as launcher:
        launcher.start()
        answers: list[LauncherStatus] = []
        asking = [threading.Thread(target=lambda: answers.append(launcher.restart())) for _ in range(6)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert {answer.phase for answer in answers} == {"ready"}
        assert place.calls().count("cuda serve") <= 4


def test_stop_during_start_and_start_during_stop_and_a_second_stop(place: Place) -> None:
    place.behave(cuda="hang")
    with place.launcher() as launcher:
        launcher.start(wait=False)
        assert launcher.wait(lambda state: state.phase == "starting", 20)
        assert launcher.stop().phase == "stopped"
        assert launcher.stop().phase == "stopped"
        place.behave(cuda="ok")
        launcher.start()
        launcher.stop(wait=False)
        assert launcher.start().phase == "ready"
