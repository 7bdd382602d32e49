"""The examination's parts: the data directory, the network's variables, the outcome, and how it is drawn."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from lading.doctor import DoctorReport, Question, examine
from lading.doctor.examine import candidate_from
from lading.doctor.folder import examine_folder
from lading.doctor.network import network_variables, without_password
from lading.errors import ConfigError
from lading.host import Candidate, Clues, Display, Gpu, GpuFacts, GpuInstance, HostFacts
from lading.manifest.project import load_project
from lading.manifest.toolkit import Toolkit
from lading.report.doctor_terminal import print_doctor

T4 = Gpu(index=0, name="Tesla T4", uuid="GPU-4", capability="7.5", memory=16 * 10**9)
P40 = Gpu(index=1, name="Tesla P40", uuid="GPU-5", capability="6.1", memory=24 * 10**9)


def host(*gpus: Gpu, driver: str = "580.65.06", platform: str = "linux-x86_64", **more: object) -> HostFacts:
    found = GpuFacts(source="simulated", driver=driver, gpus=gpus)
    if not gpus:
        found = GpuFacts(source="none", reason="no_driver", detail="NVML Shared Library Not Found")
    facts = {"platform": platform, "system": "Linux 6.8", "cpus": 8, "memory": 10**10, "gpu": found}
    return HostFacts.model_validate(facts | more)


@pytest.fixture
def toolkits(root: Path) -> tuple[Toolkit, ...]:
    return tuple(load_project(root).toolkits.values())


class TestDataDirectory:
    def test_one_that_is_yet_to_be_made_is_tried_where_it_would_be(self, tmp_path: Path) -> None:
        found = examine_folder(tmp_path / "a" / "b")
        assert (found.exists, found.writable, found.problem) == (False, True, None)
        assert (found.free or 0) > 0
        assert list(tmp_path.iterdir()) == []

    def test_what_the_file_system_can_do_is_tried_and_nothing_is_left(self, tmp_path: Path) -> None:
        found = examine_folder(tmp_path)
        assert found.exists
        assert found.symlinks or sys.platform == "win32"
        assert found.hard_links is not None
        assert found.case_sensitive is not None
        assert list(tmp_path.iterdir()) == []

    def test_a_file_in_its_place_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        found = examine_folder(tmp_path / "file" / "data")
        assert (found.writable, found.problem) == (False, f"{tmp_path / 'file'} is a file.")

    @pytest.mark.skipif(sys.platform != "linux", reason="a file system that nobody can write to, root neither")
    def test_a_place_that_cannot_be_written_is_told(self) -> None:
        found = examine_folder(Path("/proc/lading"))
        assert not found.writable
        assert found.problem


def test_passwords_are_never_shown() -> None:
    found = network_variables(
        {
            "https_proxy": "http://me:secret@proxy:3128",
            "HTTPS_PROXY": "http://other",
            "ALL_PROXY": "me:secret@proxy:1080",
            "NO_PROXY": "a,b",
            "PATH": "/bin",
        }
    )
    assert found == {"HTTPS_PROXY": "http://proxy:3128", "ALL_PROXY": "proxy:1080", "NO_PROXY": "a,b"}
    assert without_password("https://user:secret@example.org/x@y") == "https://example.org/x@y"
    assert without_password("/a/folder@home") == "/a/folder@home"


class TestToolkits:
    def test_a_manifest_is_a_build_before_there_is_one(self, toolkits: tuple[Toolkit, ...]) -> None:
        found = {one.name: candidate_from(one, "linux") for one in toolkits}
        assert found["cu126"].driver == "525.60.13"
        assert found["cu126"].archs[:2] == ("sm_50", "sm_60")
        assert found["cu130"].archs[-1] == "compute_120"
        assert candidate_from(toolkits[1], "windows").driver == "528.33"

    @pytest.mark.parametrize(
        ("machine", "chosen"),
        [
            (host(T4), "cu130"),
            (host(P40), "cu126"),
            (host(T4, driver="575.1"), "cu128"),
            (host(T4, driver="529.1", platform="windows-x86_64"), "cu128"),
            (host(T4, driver="528.1", platform="windows-x86_64"), "cu118"),
        ],
    )
    def test_they_are_weighed_like_releases(
        self, toolkits: tuple[Toolkit, ...], tmp_path: Path, machine: HostFacts, chosen: str
    ) -> None:
        report = examine(Question(host=machine, data=tmp_path, app="app", toolkits=toolkits))
        assert report.offered_by == "toolkits"
        assert report.resolution is not None
        assert (report.resolution.chosen, report.outcome, report.exit_code) == (chosen, "cuda", 0)


class TestOutcome:
    def ask(
        self, machine: HostFacts, data: Path, toolkits: tuple[Toolkit, ...], flavor: str | None = None
    ) -> tuple[str, int]:
        report = examine(Question(host=machine, data=data, app="app", toolkits=toolkits, flavor=flavor))
        return report.outcome, report.exit_code

    def test_only_the_cpu_build_has_a_code_of_its_own(self, toolkits: tuple[Toolkit, ...], tmp_path: Path) -> None:
        assert self.ask(host(), tmp_path, toolkits) == ("cpu", 3)

    def test_a_named_flavor_decides(self, toolkits: tuple[Toolkit, ...], tmp_path: Path) -> None:
        assert self.ask(host(), tmp_path, toolkits, "cpu") == ("named", 0)
        assert self.ask(host(P40), tmp_path, toolkits, "cu126") == ("named", 0)
        assert self.ask(host(P40), tmp_path, toolkits, "cu130") == ("nothing", 45)
        unknown = P40.model_copy(update={"capability": None})
        assert self.ask(host(unknown), tmp_path, toolkits, "cu126") == ("nothing", 45)

    def test_a_flavor_that_nobody_has_is_refused(self, toolkits: tuple[Toolkit, ...], tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no flavor cu999.*cu118, cu126, cu128, cu130, cpu"):
            self.ask(host(), tmp_path, toolkits, "cu999")

    def test_without_any_build_the_gpu_decides(self, tmp_path: Path) -> None:
        assert self.ask(host(T4), tmp_path, ()) == ("cuda", 0)
        assert self.ask(host(), tmp_path, ()) == ("cpu", 3)

    def test_a_data_directory_that_cannot_be_used_is_trouble(
        self, toolkits: tuple[Toolkit, ...], tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("x")
        assert self.ask(host(T4), tmp_path / "file" / "data", toolkits) == ("trouble", 41)


def test_a_report_can_be_examined_again(toolkits: tuple[Toolkit, ...], tmp_path: Path) -> None:
    first = examine(Question(host=host(T4, P40), data=tmp_path, app="app", toolkits=toolkits))
    sent = DoctorReport.model_validate_json(first.model_dump_json(by_alias=True))
    again = examine(Question(host=sent.host, data=tmp_path, app="app", replayed=sent, simulated=True))
    assert again.offered_by == "report"
    assert again.resolution == first.resolution
    assert again.simulated


# --- drawn ------------------------------------------------------------------------------------------------------------

DIVIDED = T4.model_copy(
    update={"mig": True, "instances": (GpuInstance(name="MIG 1g.10gb", uuid="MIG-1", memory=10**10),)}
)
MACHINES = {
    "a GPU": host(T4),
    "two": host(T4, P40, visible="0,1"),
    "divided": host(DIVIDED),
    "virtual": host(T4.model_copy(update={"virtual": "vgpu"}), clues=Clues(wsl=True)),
    "none": host(clues=Clues(container="docker", displays=(Display(vendor="nvidia", pci="10de:2684"),))),
    "unknown": host(T4.model_copy(update={"capability": None, "memory": 0})),
    "too old": host(T4, driver="440.1"),
    "musl": host(T4, libc="musl"),
}


def drawn(report: DoctorReport) -> str:
    stream = io.StringIO()
    print_doctor(Console(file=stream, width=80, force_terminal=False), report)
    return stream.getvalue()


@pytest.mark.parametrize("name", MACHINES)
def test_it_fits_80_columns_and_says_for_every_build_why(
    name: str, toolkits: tuple[Toolkit, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, "http://proxy.example.org:3128/" + "long" * 10)
    report = examine(Question(host=MACHINES[name], data=Path("data"), app="app", toolkits=toolkits))
    text = drawn(report)
    assert max(map(len, text.splitlines())) <= 80
    for flavor in ("cu118", "cu126", "cu128", "cu130", "cpu"):
        assert f"  {flavor}" in text
    assert report.resolution is not None
    flat = " ".join(text.split())
    assert " ".join(report.resolution.why.text.split()) in flat
    for remedy in report.resolution.remedies:
        assert " ".join(remedy.text.split()) in flat


def test_another_machines_report_says_nothing_about_this_ones_disk(
    toolkits: tuple[Toolkit, ...], tmp_path: Path
) -> None:
    question = Question(host=host(T4), data=tmp_path, app="app", toolkits=toolkits, simulated=True)
    assert "Data directory" not in drawn(examine(question))


def test_the_variable_for_the_one_gpu_that_a_build_runs_on_is_told(
    toolkits: tuple[Toolkit, ...], tmp_path: Path
) -> None:
    cu130 = tuple(one for one in toolkits if one.name == "cu130")
    text = drawn(examine(Question(host=host(T4, P40), data=tmp_path, app="app", toolkits=cu130)))
    assert "CUDA_VISIBLE_DEVICES=GPU-4" in text
    assert "runs on 1 of 2 GPUs" in text


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    odd = T4.model_copy(update={"name": "[red]Odd[/] GPU"})
    assert "[red]Odd[/] GPU" in drawn(examine(Question(host=host(odd), data=tmp_path, app="app")))


def test_a_build_that_may_not_be_unpacked_is_to_be_tested(tmp_path: Path) -> None:
    candidate = Candidate(flavor="cu128", cuda="12.8", driver="525.60.13", archs=("sm_75",))
    machine = host(T4, driver="535.1")
    report = examine(Question(host=machine, data=tmp_path, app="app"))
    known = report.model_copy(update={"candidates": (candidate,)})
    text = drawn(examine(Question(host=machine, data=tmp_path, app="app", replayed=known)))
    assert "Driver 535.1 may not be able to unpack CUDA 12.8 code" in " ".join(text.split())
    assert "lading verify --require-gpu" in text
