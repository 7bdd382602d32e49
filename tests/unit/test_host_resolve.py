"""Which build a machine gets: the known combinations of GPU, driver and build, and what must hold for all others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.host import Candidate, Gpu, GpuFacts, GpuInstance, HostFacts, Resolution, resolve
from lading.host.arch import capabilities, code_for, numbers, parse_arch
from lading.host.record import Clues, Display
from lading.host.visible import device_id, visible_gpus

OLD = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CU128 = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
LINUX = {"cu118": "450.80.02", "cu12": "525.60.13", "cu13": "580"}
WINDOWS = {"cu118": "452.39", "cu12": "528.33", "cu13": "580"}
ARCHS: dict[str, tuple[str, ...]] = {
    "cu118": ("sm_37", *OLD),
    "cu121": OLD,
    "cu126": OLD,
    "cu128": CU128,
    "cu130": (*CU128[1:], "compute_120"),
}
CPU = Candidate(flavor="cpu")


def build(flavor: str, archs: Sequence[str] | None = None, floors: dict[str, str] = LINUX) -> Candidate:
    floor = floors.get(flavor) or floors[flavor[:4]]
    cuda = f"{flavor[2:4]}.{flavor[4:]}"
    return Candidate(flavor=flavor, cuda=cuda, driver=floor, archs=tuple(ARCHS[flavor] if archs is None else archs))


BUILDS = (*(build(flavor) for flavor in ARCHS), CPU)


def gpu(capability: str | None, index: int = 0, memory: int = 8 * 2**30) -> Gpu:
    return Gpu(index=index, name=f"GPU {capability}", uuid=f"GPU-{index}", capability=capability, memory=memory)


def host(
    *gpus: Gpu,
    driver: str | None = "580.65.06",
    cuda: str | None = None,
    platform: str = "linux-x86_64",
    **more: object,
) -> HostFacts:
    found = GpuFacts(source="nvml", driver=driver, cuda=cuda, gpus=gpus)
    if not gpus:
        found = GpuFacts(source="none", reason="no_driver", detail="none")
    return HostFacts.model_validate({"platform": platform, "system": "test", "cpus": 2, "gpu": found} | more)


@pytest.mark.proves("X-29")
@pytest.mark.parametrize(
    ("capability", "driver", "chosen"),
    [
        ("6.1", "535", "cu126"),
        ("6.1", "470", "cu118"),
        ("3.7", "470", "cu118"),
        ("3.5", "470", "cpu"),
        ("7.0", "580", "cu128"),
        ("7.5", "580", "cu130"),
        ("8.6", "525.60.12", "cu118"),
        ("8.6", "525.60.13", "cu128"),
        ("8.9", "570", "cu128"),
        ("9.0", "570", "cu128"),
        ("9.0", "580", "cu130"),
        ("12.0", "570", "cu128"),
        ("12.0", "520", "cpu"),
        ("12.1", "580", "cu130"),
        ("5.0", "580", "cu126"),
    ],
)
def test_the_known_combinations_on_linux(capability: str, driver: str, chosen: str) -> None:
    assert resolve(host(gpu(capability), driver=driver), BUILDS).chosen == chosen


@pytest.mark.parametrize(
    ("driver", "chosen"),
    [
        ("452.38", "cpu"),
        ("452.39", "cu118"),
        ("528.32", "cu118"),
        ("528.33", "cu128"),
        ("579.99", "cu128"),
        ("580.88", "cu130"),
    ],
)
def test_the_lowest_drivers_on_windows(driver: str, chosen: str) -> None:
    builds = [*(build(flavor, floors=WINDOWS) for flavor in ARCHS), CPU]
    assert resolve(host(gpu("8.6"), driver=driver, platform="windows-x86_64"), builds).chosen == chosen


def test_a_build_of_the_same_cuda_that_dropped_the_gpu_is_passed_over() -> None:
    later = build("cu128", ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"))
    builds = [later if one.flavor == "cu128" else one for one in BUILDS]
    found = resolve(host(gpu("7.0"), driver="580"), builds)
    assert found.chosen == "cu126"
    dropped = found.of("cu128")
    assert dropped is not None
    assert [(reason.code, reason.capability) for reason in dropped.reasons] == [("arch_unsupported", "7.0")]
    assert dropped.reasons[0].archs == ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")


def test_a_driver_that_is_too_old_is_told_with_both_versions_and_the_one_that_is_needed() -> None:
    found = resolve(host(gpu("12.0"), driver="520"), BUILDS)
    assert (found.chosen, found.fits, found.why.code) == ("cpu", "fits", "driver_too_old")
    assert (found.why.have, found.why.need) == ("520", "525.60.13")
    assert [(remedy.kind, remedy.flavor, remedy.driver) for remedy in found.remedies] == [
        ("newer_driver", "cu128", "525.60.13")
    ]


def test_a_gpu_that_no_build_has_code_for_is_told_with_what_there_is() -> None:
    found = resolve(host(gpu("3.5"), driver="470"), BUILDS)
    assert (found.why.code, found.why.capability) == ("arch_unsupported", "3.5")
    assert found.why.archs[0] == "3.7"
    assert [remedy.kind for remedy in found.remedies] == ["other_build"]


def test_drivers_are_compared_number_by_number() -> None:
    assert resolve(host(gpu("9.0"), driver="580.65.06"), BUILDS).chosen == "cu130"
    assert resolve(host(gpu("9.0"), driver="1000.1"), BUILDS).chosen == "cu130"
    assert resolve(host(gpu("9.0"), driver="99.9"), BUILDS).chosen == "cpu"
    assert numbers("580") == numbers("580.0") == (580,)
    assert numbers("550.54.14-server") == (550, 54, 14)
    assert numbers("open") is numbers(None) is None


def test_without_a_driver_the_cpu_build_is_taken_and_why_is_told() -> None:
    found = resolve(host(), BUILDS)
    assert (found.chosen, found.why.code, found.devices) == ("cpu", "no_driver", ())
    assert [remedy.kind for remedy in found.remedies] == ["other_machine"]
    assert all(one.verdict == "no" for one in found.assessments if one.cuda)


class TestSeveralGpus:
    def test_without_a_common_build_the_best_gpu_decides_and_the_others_are_hidden(self) -> None:
        machine = host(gpu("6.1", 0, 24 * 2**30), gpu("12.0", 1), driver="570.86.15")
        found = resolve(machine, BUILDS)
        assert (found.chosen, found.why.code) == ("cu128", "best_for_some")
        assert found.devices == ("GPU-1",)
        assert found.visible == "GPU-1"
        assert not any(one.whole for one in found.assessments if one.cuda)

    def test_the_other_gpu_can_be_chosen(self) -> None:
        machine = host(gpu("6.1", 0), gpu("12.0", 1), driver="570.86.15")
        found = resolve(machine, BUILDS, devices="GPU-0")
        assert (found.chosen, found.why.code, found.visible) == ("cu126", "best_for_all", None)

    def test_a_gpu_that_no_build_runs_on_leaves_the_choice_to_the_next_one(self) -> None:
        machine = host(gpu("12.0", 0), gpu("6.1", 1), driver="535.54")
        found = resolve(machine, [build("cu126"), CPU])
        assert (found.chosen, found.visible) == ("cu126", "GPU-1")

    def test_an_older_build_for_all_is_better_than_a_newer_one_for_some(self) -> None:
        found = resolve(host(gpu("6.1", 0), gpu("9.0", 1)), BUILDS)
        assert (found.chosen, found.devices, found.visible) == ("cu126", ("GPU-0", "GPU-1"), None)

    def test_of_two_equal_gpus_both_are_used_and_of_two_fitting_ones_none_is_hidden(self) -> None:
        found = resolve(host(gpu("9.0", 0), gpu("8.6", 1), gpu("6.1", 2)), [build("cu130"), CPU])
        assert (found.devices, found.visible) == (("GPU-0", "GPU-1"), "GPU-0,GPU-1")


class TestWhatIsNotKnown:
    """What nobody knows is never taken for good."""

    pytestmark = pytest.mark.proves("X-29")

    def test_an_unknown_compute_capability(self) -> None:
        found = resolve(host(gpu(None), driver="580"), BUILDS)
        assert (found.chosen, found.why.code) == ("cpu", "cc_unknown")
        assert {one.verdict for one in found.assessments if one.cuda} == {"unknown"}
        assert [(remedy.kind, remedy.flavor) for remedy in found.remedies] == [("other_toolkit", "cu130")]

    def test_a_build_without_a_list_of_architectures(self) -> None:
        found = resolve(host(gpu("9.0")), [build("cu126", ()), CPU])
        assert (found.chosen, found.why.code) == ("cpu", "arch_list_unknown")

    def test_a_list_with_an_entry_of_a_new_kind(self) -> None:
        strange = build("cu130", ("sm_75", "tile_130"))
        assert resolve(host(gpu("7.5")), [strange]).chosen == "cu130"
        found = resolve(host(gpu("13.0")), [strange])
        assert (found.chosen, found.why.code, found.why.verdict) == (None, "arch_list_unknown", "unknown")

    @pytest.mark.parametrize("driver", [None, "unreadable"])
    def test_a_driver_that_does_not_say_its_version(self, driver: str | None) -> None:
        found = resolve(host(gpu("9.0"), driver=driver), BUILDS)
        assert (found.chosen, found.why.code) == ("cpu", "driver_unknown")

    def test_a_build_that_does_not_say_its_lowest_driver(self) -> None:
        bare = Candidate(flavor="cu126", cuda="12.6", archs=OLD)
        assert resolve(host(gpu("9.0")), [bare]).why.code == "driver_unknown"

    def test_a_board_with_the_gpu_in_the_processor(self) -> None:
        found = resolve(host(gpu("8.7"), clues=Clues(tegra=True)), BUILDS)
        assert (found.chosen, found.why.code) == ("cpu", "tegra")

    def test_what_was_named_is_taken_and_must_be_tested(self) -> None:
        found = resolve(host(gpu(None)), BUILDS, forced="cu126")
        assert (found.chosen, found.forced, found.fits, found.needs_kernel_test) == ("cu126", True, "unknown", True)


@pytest.mark.parametrize(
    ("flavor", "driver", "tested"),
    [
        ("cu128", "525.60.13", True),
        ("cu128", "549.99", True),
        ("cu128", "550", False),
        ("cu128", "550.54.14", False),
        ("cu126", "525.60.13", False),
        ("cu130", "580", False),
    ],
)
def test_a_driver_that_may_not_unpack_newer_code_needs_a_test(flavor: str, driver: str, *, tested: bool) -> None:
    found = resolve(host(gpu("8.6"), driver=driver), [build(flavor)])
    assert (found.chosen, found.fits, found.needs_kernel_test) == (flavor, "fits", tested)


class TestCompiledByTheDriver:
    PTX = build("cu128", ("sm_90", "compute_90"))

    @pytest.mark.parametrize(
        ("cuda", "verdict"), [("12.8", "fits"), ("13.0", "fits"), ("12.7", "no"), (None, "unknown")]
    )
    def test_only_a_driver_as_new_as_the_build_can(self, cuda: str | None, verdict: str) -> None:
        found = resolve(host(gpu("10.0"), driver="570.86", cuda=cuda), [self.PTX, CPU]).of("cu128")
        assert found is not None
        assert found.verdict == verdict
        assert found.has("ptx_needs_newer_driver") is (verdict != "fits")

    def test_which_driver_would_do_is_told(self) -> None:
        found = resolve(host(gpu("10.0"), driver="550.54", cuda="12.4"), [self.PTX, CPU])
        assert (found.chosen, found.why.code, found.why.have, found.why.need) == (
            "cpu",
            "ptx_needs_newer_driver",
            "12.4",
            "12.8",
        )
        assert found.remedies[0].kind == "newer_driver"
        assert "12.8" in found.remedies[0].text

    def test_machine_code_needs_no_compiling(self) -> None:
        assert resolve(host(gpu("9.0"), driver="525.60.13", cuda="12.0"), [self.PTX]).chosen == "cu128"


@pytest.mark.parametrize(
    ("archs", "runs", "does_not"),
    [
        (("sm_86",), ("8.6", "8.7", "8.9"), ("8.0", "9.0", "7.5")),
        (("sm_80",), ("8.0", "8.6", "8.7", "8.9"), ("7.5", "9.0")),
        (("sm_90a",), ("9.0",), ("9.1", "10.0")),
        (("sm_100",), ("10.0", "10.3"), ("11.0", "12.0", "9.0")),
        (("sm_100f",), ("10.0", "10.3"), ("11.0", "12.0")),
        (("sm_103f",), ("10.3",), ("10.0",)),
        (("sm_120",), ("12.0", "12.1"), ("10.0", "13.0")),
    ],
)
def test_machine_code_runs_on_the_same_major_and_a_later_minor(
    archs: tuple[str, ...], runs: tuple[str, ...], does_not: tuple[str, ...]
) -> None:
    assert {code_for(capability, archs) for capability in runs} == {"sass"}
    assert {code_for(capability, archs) for capability in does_not} == {"none"}


@pytest.mark.parametrize(
    ("archs", "runs", "does_not"),
    [
        (("compute_90",), ("9.0", "10.0", "12.1"), ("8.9",)),
        (("compute_90a",), ("9.0",), ("10.0",)),
        (("compute_100f",), ("10.0", "10.3"), ("12.0",)),
    ],
)
def test_ptx_is_for_everything_later_unless_it_says_otherwise(
    archs: tuple[str, ...], runs: tuple[str, ...], does_not: tuple[str, ...]
) -> None:
    assert {code_for(capability, archs) for capability in runs} == {"ptx"}
    assert {code_for(capability, archs) for capability in does_not} == {"none"}


def test_architectures_are_read_as_torch_writes_them() -> None:
    assert capabilities(("sm_50", "sm_90a", "sm_120", "compute_120", "x")) == ("5.0", "9.0a", "12.0", "PTX 12.0", "x")
    assert parse_arch("gfx90a") is None
    assert code_for("9.0", ()) == code_for("new", ("sm_90",)) == "unknown"


class TestVisibleGpus:
    GPUS = (gpu("6.1", 0), gpu("9.0", 1), gpu("8.6", 2))

    @pytest.mark.parametrize(
        ("value", "seen"),
        [
            (None, [0, 1, 2]),
            ("", []),
            ("-1", []),
            ("1", [1]),
            ("2,0", [2, 0]),
            ("0, 1", [0, 1]),
            ("1,7,0", [1]),
            ("GPU-2", [2]),
            ("GPU-", []),
            ("NoDevFiles", []),
        ],
    )
    def test_the_variable_is_read_as_cuda_reads_it(self, value: str | None, seen: list[int]) -> None:
        assert [found.index for found in visible_gpus(self.GPUS, value)] == seen

    def test_what_is_hidden_is_honoured_and_told(self) -> None:
        found = resolve(host(*self.GPUS, visible="1"), BUILDS)
        assert (found.chosen, found.devices, found.visible) == ("cu130", ("GPU-1",), None)
        assert "1 of 3 GPUs" in found.notes[0]

    def test_hiding_all_is_a_reason_of_its_own(self) -> None:
        found = resolve(host(*self.GPUS, visible=""), BUILDS)
        assert (found.chosen, found.why.code) == ("cpu", "gpus_hidden")
        assert [remedy.kind for remedy in found.remedies] == ["show_gpus"]

    def test_the_own_choice_goes_before_the_variable(self) -> None:
        assert resolve(host(*self.GPUS, visible=""), BUILDS, devices="0").chosen == "cu126"


class TestDividedGpus:
    PARTS = (GpuInstance(name="1g.10gb", uuid="MIG-1", memory=10), GpuInstance(name="3g.40gb", uuid="MIG-3", memory=40))

    def divided(self, *parts: GpuInstance) -> Gpu:
        return gpu("9.0").model_copy(update={"mig": True, "instances": parts})

    def test_programs_get_the_largest_instance_by_its_identifier(self) -> None:
        found = resolve(host(self.divided(*self.PARTS)), BUILDS)
        assert (found.chosen, found.devices) == ("cu130", ("MIG-3",))
        assert "1g.10gb, 3g.40gb" in found.notes[0]

    def test_the_instance_that_the_user_named_stays(self) -> None:
        machine = host(self.divided(*self.PARTS), visible="MIG-1")
        assert resolve(machine, BUILDS).devices == ("MIG-1",)
        assert device_id(visible_gpus(machine.gpu.gpus, "MIG-1,MIG-3")[0]) == "MIG-1"

    def test_without_an_instance_it_cannot_be_used(self) -> None:
        found = resolve(host(self.divided()), BUILDS)
        assert (found.chosen, found.why.code) == ("cpu", "mig_without_instance")


class TestOtherSystems:
    NEEDS = Candidate(flavor="cpu", glibc="2.28")

    def test_a_system_that_is_too_old_gets_nothing(self) -> None:
        found = resolve(host(libc="glibc", glibc="2.17"), [self.NEEDS])
        assert (found.chosen, found.why.code, found.why.have, found.why.need) == (None, "glibc_too_old", "2.17", "2.28")
        assert [remedy.kind for remedy in found.remedies] == ["newer_system"]

    def test_a_newer_one_fits_number_by_number(self) -> None:
        assert resolve(host(libc="glibc", glibc="2.100"), [self.NEEDS]).chosen == "cpu"

    def test_musl_has_no_glibc(self) -> None:
        assert resolve(host(libc="musl"), [self.NEEDS]).why.code == "no_glibc"

    def test_a_system_that_does_not_say_is_not_taken_for_good(self) -> None:
        found = resolve(host(), [self.NEEDS])
        assert (found.chosen, found.why.code) == (None, "glibc_unknown")

    def test_windows_needs_none(self) -> None:
        assert resolve(host(platform="windows-x86_64"), [self.NEEDS]).chosen == "cpu"

    def test_the_newer_toolkit_for_a_newer_system_is_passed_over(self) -> None:
        newer = build("cu130").model_copy(update={"glibc": "2.34"})
        older = build("cu126").model_copy(update={"glibc": "2.28"})
        found = resolve(host(gpu("9.0"), libc="glibc", glibc="2.31"), [newer, older, self.NEEDS])
        assert (found.chosen, found.why.code) == ("cu126", "best_for_all")


class TestNamed:
    def test_what_was_named_is_taken_and_what_speaks_against_it_is_told(self) -> None:
        found = resolve(host(gpu("6.1")), BUILDS, forced="cu130")
        assert (found.chosen, found.forced, found.fits, found.why.code) == ("cu130", True, "no", "forced")
        assert "6.1" in found.why.text
        assert [(remedy.kind, remedy.flavor) for remedy in found.remedies] == [
            ("other_toolkit", "cu126"),
            ("cpu", "cpu"),
        ]

    def test_without_a_gpu_the_cpu_build_is_what_helps(self) -> None:
        card = Clues(displays=(Display(vendor="nvidia", pci="10de:2684", driver="nouveau"),))
        found = resolve(host(clues=card), BUILDS, forced="cu126")
        assert [remedy.kind for remedy in found.remedies] == ["repair_driver", "cpu"]
        assert "nouveau" in found.remedies[0].text

    def test_what_fits_needs_no_help(self) -> None:
        found = resolve(host(gpu("6.1")), BUILDS, forced="cu118")
        assert (found.fits, found.remedies) == ("fits", ())

    def test_what_is_not_there_is_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(RuntimeError, match="cu999"):
            resolve(host(), BUILDS, forced="cu999")


def test_without_any_build_nothing_is_chosen() -> None:
    assert resolve(host(gpu("9.0")), []).chosen is None
    found = resolve(host(gpu("9.0")), [CPU])
    assert (found.chosen, found.why.code, found.remedies) == ("cpu", "cuda_not_offered", ())


# --- what holds for every machine -------------------------------------------------------------------------------------

CAPABILITIES = st.sampled_from(
    ["3.5", "3.7", "5.0", "5.2", "6.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "12.0"]
)
ARCH = st.builds(
    "{}_{}{}".format,
    st.sampled_from(["sm", "compute"]),
    st.sampled_from(["37", "50", "60", "70", "75", "80", "86", "90", "100", "120"]),
    st.sampled_from(["", "", "", "a", "f"]),
)
DRIVERS = st.tuples(st.integers(440, 600), st.integers(0, 99), st.integers(0, 99))
MEMORIES = st.integers(1, 4)


@st.composite
def machines(draw: st.DrawFn) -> HostFacts:
    number = draw(st.integers(1, 3))
    gpus = [gpu(draw(st.none() | CAPABILITIES), index, draw(MEMORIES)) for index in range(number)]
    driver = ".".join(map(str, draw(DRIVERS)))
    cuda = draw(st.none() | st.sampled_from(["11.4", "12.0", "12.4", "12.8", "13.0"]))
    return host(*gpus, driver=driver, cuda=cuda)


@st.composite
def offers(draw: st.DrawFn) -> list[Candidate]:
    flavors = draw(st.lists(st.sampled_from(list(ARCHS)), unique=True))
    builds = [build(flavor, draw(st.none() | st.lists(ARCH, max_size=6))) for flavor in flavors]
    return [*builds, *([CPU] if draw(st.booleans()) else [])]


def worth(found: Resolution, machine: HostFacts) -> tuple[object, ...]:
    """How good a choice is: nothing, CPU, some GPUs by the best one, all GPUs; then the CUDA version."""
    if found.chosen in {None, "cpu"}:
        return (0 if found.chosen is None else 1,)
    one = found.of(str(found.chosen))
    assert one is not None
    used = [g for g in machine.gpu.gpus if g.uuid in one.covers]
    best = max((numbers(g.capability) or (), g.memory, -g.index) for g in used)
    return (3, numbers(one.cuda)) if one.whole else (2, best, numbers(one.cuda))


@given(machine=machines(), builds=offers(), more=st.integers(0, 100))
def test_a_newer_driver_never_makes_the_choice_worse(machine: HostFacts, builds: list[Candidate], more: int) -> None:
    first, _, rest = str(machine.gpu.driver).partition(".")
    later = machine.gpu.model_copy(
        update={"driver": f"{int(first) + more}.{rest}", "cuda": machine.gpu.cuda and "13.0"}
    )
    newer = machine.model_copy(update={"gpu": later})
    assert worth(resolve(newer, builds), newer) >= worth(resolve(machine, builds), machine)


@given(machine=machines(), builds=offers())
def test_what_is_chosen_runs_on_every_gpu_that_it_is_given(machine: HostFacts, builds: list[Candidate]) -> None:
    found = resolve(machine, builds)
    offered = {one.flavor: one for one in builds}
    if found.chosen is None or found.chosen == "cpu":
        assert found.devices == ()
        return
    chosen = offered[found.chosen]
    assert found.devices
    assert (numbers(machine.gpu.driver) or ()) >= (numbers(chosen.driver) or ())
    for one in machine.gpu.gpus:
        if one.uuid in found.devices:
            code = code_for(str(one.capability), chosen.archs)
            assert code == "sass" or (
                code == "ptx" and (numbers(machine.gpu.cuda) or ()) >= (numbers(chosen.cuda) or ())
            )


@given(machine=machines(), builds=offers())
def test_every_build_that_is_not_chosen_says_why_or_fits_less_well(machine: HostFacts, builds: list[Candidate]) -> None:
    found = resolve(machine, builds)
    assert {one.flavor for one in found.assessments} == {one.flavor for one in builds}
    for one in found.assessments:
        assert one.verdict == "fits" or any(reason.verdict == one.verdict for reason in one.reasons)
        assert one.cuda is None or bool(one.covers) is (one.verdict == "fits")
    if found.chosen == "cpu":
        assert not found.cuda_fits
        assert found.why.text


@given(machine=machines(), builds=offers(), order=st.randoms())
def test_the_order_in_which_builds_are_offered_does_not_matter(
    machine: HostFacts, builds: list[Candidate], order: object
) -> None:
    shuffled = list(builds)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resolve(machine, shuffled) == resolve(machine, builds)


@given(machine=machines(), builds=offers())
def test_a_choice_survives_its_own_json(machine: HostFacts, builds: list[Candidate]) -> None:
    found = resolve(machine, builds)
    assert Resolution.model_validate_json(found.model_dump_json()) == found
