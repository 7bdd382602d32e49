"""Which release of a channel a machine gets, and what is refused before anything large is fetched."""

from __future__ import annotations

import pytest
from tests.packed_release import APP, PLATFORM

from lading.errors import ConfigError, HostUnfit
from lading.host import Clues, Display, Gpu, GpuFacts, HostFacts
from lading.manifest.channel import Channel, ChannelEntry
from lading.manifest.release import (
    Asset,
    ComponentRecord,
    Provenance,
    Release,
    Requirements,
    TorchBuild,
)
from lading.store.choice import candidate_of, choose_release
from lading.store.rollout import Asked

OLD = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
NEW = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
DIGEST = "0" * 64


def component(name: str, version: str, flavor: str, torch: TorchBuild | None) -> ComponentRecord:
    asset = Asset(name="a", size=1, sha256=DIGEST)
    return ComponentRecord.model_validate(
        {
            "app": APP, "component": name, "version": version, "flavor": flavor, "platform": PLATFORM, "tree": DIGEST,
            "files": 1, "unpacked": 1, "size": 1, "sha256": DIGEST, "index": asset, "volumes": (asset,),
            "profile": "fast", "torch": torch,
        }
    )  # fmt: skip


def release(flavor: str, version: str = "0.1.0", *, glibc: str | None = "2.28") -> Release:
    floors = {"cu126": "525.60.13", "cu130": "580"}
    archs = {"cu126": OLD, "cu130": NEW}.get(flavor, ())
    parts = [component("core", version, flavor, None)]
    if flavor != "cpu":
        cuda = f"{flavor[2:4]}.{flavor[4:]}"
        torch = TorchBuild(version=f"2.7.1+{flavor}", cuda=cuda, archs=archs)
        parts.append(component("libs", f"{flavor}-v1", flavor, torch))
    return Release(
        app=APP,
        version=version,
        platform=PLATFORM,
        flavor=flavor,
        entry="server",
        tree=DIGEST,
        components=tuple(parts),
        requirements=Requirements(driver=floors.get(flavor), archs=archs, glibc=glibc, disk=1),
        provenance=Provenance(commit="unknown", epoch=0, python="3.11", pyinstaller="6", zstd="1.5.7", lading="0"),
    )


class Shelf:
    """A channel, and who asked it for which manifest."""

    def __init__(self, *releases: Release) -> None:
        self.releases = {f"{one.version}-{one.flavor}": one for one in releases}
        self.asked: list[str] = []
        self.channel = Channel(
            app=APP,
            channel="stable",
            releases=tuple(
                ChannelEntry(version=one.version, platform=one.platform, flavor=one.flavor, target=target)
                for target, one in self.releases.items()
            ),
        )

    def get(self, entry: ChannelEntry) -> Release:
        target = entry.target or ""
        self.asked.append(target)
        return self.releases[target]

    def choose(self, host: HostFacts | None, flavor: str | None = None, **more: object) -> str:
        found, _ = choose_release(
            self.channel,
            self.get,
            Asked(platform=PLATFORM, flavor=flavor, version=more.pop("version", None)),  # type: ignore[arg-type]
            host=host,
            **more,  # type: ignore[arg-type]
        )
        return f"{found.version}-{found.flavor}"

    def refused(self, host: HostFacts, flavor: str | None = None, **more: object) -> HostUnfit:
        with pytest.raises(HostUnfit) as caught:
            self.choose(host, flavor, **more)
        return caught.value


def host(capability: str | None = None, driver: str = "580.65.06", **more: object) -> HostFacts:
    gpu = GpuFacts(source="none", reason="no_driver", detail="none")
    if capability is not None:
        one = Gpu(index=0, name="Test GPU", uuid="GPU-0", capability=capability, memory=1)
        gpu = GpuFacts(source="simulated", driver=driver, gpus=(one,))
    facts = {"platform": PLATFORM, "system": "test", "libc": "glibc", "glibc": "2.36", "cpus": 1, "gpu": gpu}
    return HostFacts.model_validate(facts | more)


ALL = (release("cpu"), release("cu126"), release("cu130"))


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        (host("9.0"), "0.1.0-cu130"),
        (host("9.0", "570.1"), "0.1.0-cu126"),
        (host("6.1"), "0.1.0-cu126"),
        (host("12.0", "570.1"), "0.1.0-cpu"),
        (host(), "0.1.0-cpu"),
    ],
    ids=["newest", "older driver", "older GPU", "no build for it", "no GPU"],
)
def test_without_a_name_a_machine_gets_what_fits(facts: HostFacts, chosen: str) -> None:
    assert Shelf(*ALL).choose(facts) == chosen


def test_only_the_manifest_of_a_named_flavor_is_read() -> None:
    shelf = Shelf(*ALL)
    assert shelf.choose(host("9.0"), "cu126") == "0.1.0-cu126"
    assert shelf.asked == ["0.1.0-cu126"]


def test_the_newest_of_each_flavor_is_weighed() -> None:
    shelf = Shelf(release("cpu", "0.2.0"), release("cu130", "0.2.0"), *ALL)
    assert shelf.choose(host("9.0")) == "0.2.0-cu130"
    assert sorted(shelf.asked) == ["0.1.0-cu126", "0.2.0-cpu", "0.2.0-cu130"]
    assert shelf.choose(host("6.1")) == "0.1.0-cu126"
    assert shelf.choose(host("6.1"), version="v0.2.0") == "0.2.0-cpu"


def test_a_flavor_that_is_named_and_cannot_run_is_refused_with_what_would_do() -> None:
    error = Shelf(*ALL).refused(host("9.0", "535.54"), "cu130")
    assert error.exit_code == 45
    assert (
        "0.1.0 (cu130) cannot run on this machine: It needs driver 580 or newer; this machine has 535.54." in error.what
    )
    for remedy in ("Update NVIDIA's driver to 580", "--flavor cu126", "--flavor cpu", "--force"):
        assert remedy in error.todo


def test_a_machine_without_a_gpu_gets_no_cuda_build_by_name() -> None:
    card = Clues(displays=(Display(vendor="amd", pci="1002:73bf"),))
    error = Shelf(*ALL).refused(host(clues=card), "cu126")
    assert "There is no NVIDIA driver." in error.what
    assert "AMD GPU" in error.usually
    assert "--flavor cpu" in error.todo


def test_when_nothing_fits_every_build_says_why() -> None:
    error = Shelf(release("cu126"), release("cu130")).refused(host("12.0", "570.1"))
    assert "cu130: It needs driver 580" in error.what
    assert "cu126: It has no code for Test GPU (12.0)" in error.what
    assert "Update NVIDIA's driver to 580" in error.todo


def test_a_channel_with_one_build_that_does_not_fit_is_refused() -> None:
    error = Shelf(release("cu126")).refused(host())
    assert "only as cu126" in error.what
    assert "needs a machine with an NVIDIA GPU" in error.todo


def test_a_system_that_is_too_old_is_refused_for_the_cpu_build_as_well() -> None:
    error = Shelf(*ALL).refused(host(glibc="2.17"), "cpu")
    assert "glibc 2.28" in error.what
    assert "2.17" in error.what


def test_what_is_not_known_is_taken_by_name_and_never_by_itself() -> None:
    shelf = Shelf(release("cu126").model_copy(update={"requirements": Requirements(disk=1)}))
    error = shelf.refused(host("9.0"))
    assert "may not run here: The build names no lowest driver" in error.what
    assert "Try it: --flavor cu126" in error.todo
    assert shelf.choose(host("9.0"), "cu126") == "0.1.0-cu126"


class TestForced:
    def test_what_was_named_is_taken(self) -> None:
        shelf = Shelf(*ALL)
        assert shelf.choose(host(), "cu126", force=True) == "0.1.0-cu126"
        assert shelf.asked == ["0.1.0-cu126"]

    def test_the_only_build_is_taken(self) -> None:
        assert Shelf(release("cu126")).choose(host(), force=True) == "0.1.0-cu126"

    def test_of_several_that_do_not_fit_one_must_be_named(self) -> None:
        with pytest.raises(ConfigError, match="cu126, cu130"):
            Shelf(release("cu126"), release("cu130")).choose(host(), force=True)

    def test_what_fits_is_chosen_all_the_same(self) -> None:
        assert Shelf(*ALL).choose(host("6.1"), force=True) == "0.1.0-cu126"

    def test_what_speaks_against_it_is_told(self) -> None:
        shelf = Shelf(*ALL)
        _, found = choose_release(
            shelf.channel, shelf.get, Asked(platform=PLATFORM, flavor="cu130"), host=host("6.1"), force=True
        )
        assert found is not None
        assert (found.chosen, found.forced, found.fits) == ("cu130", True, "no")
        assert "6.1" in found.why.text


class TestWithoutTheMachine:
    def test_nothing_is_checked(self) -> None:
        assert Shelf(*ALL).choose(None, "cu130") == "0.1.0-cu130"
        assert Shelf(release("cu126")).choose(None) == "0.1.0-cu126"

    def test_of_several_one_must_be_named(self) -> None:
        with pytest.raises(ConfigError, match="several flavors"):
            Shelf(*ALL).choose(None)


def test_what_is_not_there_is_told_before_the_machine_is_weighed() -> None:
    with pytest.raises(ConfigError, match=r"no version 9\.0\.0 \(any flavor"):
        Shelf(*ALL).choose(host("9.0"), version="9.0.0")
    with pytest.raises(ConfigError, match="no flavor cu118"):
        Shelf(*ALL).choose(host("9.0"), "cu118")


def test_a_release_says_what_it_needs() -> None:
    found = candidate_of(release("cu126"))
    assert (found.flavor, found.version, found.cuda, found.driver) == ("cu126", "0.1.0", "12.6", "525.60.13")
    assert (found.archs, found.glibc) == (OLD, "2.28")
    assert candidate_of(release("cpu")).cuda is None
    libs = release("cu126").components[1].model_copy(update={"torch": None})
    unsaid = release("cu126").model_copy(update={"components": (release("cu126").components[0], libs)})
    assert candidate_of(unsaid).cuda == "12.6"
