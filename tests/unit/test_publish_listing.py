"""How a publisher changes a channel's index: promote, withdraw, restore, roll out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.channel_index import BAD, channel, entry
from tests.packed_release import ENTRY, program, write_packed

from lading.errors import ConfigError
from lading.manifest.base import read_record
from lading.manifest.channel import Channel
from lading.manifest.release import Release
from lading.publish.listing import Which, promoted, restored, rolled_out, with_release, withdrawn

NOW = 1_800_000_000
BETA = channel(entry("0.2.0"), entry("0.2.0", flavor="cu126"), entry("0.1.0"), name="beta")
STABLE = channel(entry("0.1.0"))
BOTH = {"beta": BETA, "stable": STABLE}
NEW = Which(version="v0.2.0")


def offers(found: Channel) -> dict[tuple[str, str], object]:
    return {(one.version, one.flavor): one.withdrawn or one.rollout for one in found.releases}


def test_promoting_lists_the_same_manifests_in_another_channel() -> None:
    after = promoted(BOTH, replace(NEW, channels=("beta",)), "stable")
    assert offers(after["stable"]) == {("0.2.0", "cpu"): None, ("0.2.0", "cu126"): None, ("0.1.0", "cpu"): None}
    assert after["stable"].releases[0].target == BETA.releases[0].target
    assert after["beta"] == BETA
    assert promoted(after, NEW, "stable") == after


def test_promoting_takes_a_flavor_alone_and_makes_a_channel() -> None:
    after = promoted(BOTH, replace(NEW, flavor="cu126"), "nightly", rollout=10)
    assert offers(after["nightly"]) == {("0.2.0", "cu126"): 10}
    assert (after["nightly"].app, after["nightly"].channel) == ("demo", "nightly")


def test_promoting_again_changes_nothing_about_how_far_it_is_rolled_out() -> None:
    after = promoted(BOTH, NEW, "stable", rollout=10)
    assert promoted(after, NEW, "stable", rollout=100) == after
    assert promoted({"stable": after["stable"]}, NEW, "stable") == {"stable": after["stable"]}, "pruned from beta"


def test_what_is_withdrawn_anywhere_is_not_promoted() -> None:
    for name in ("beta", "stable"):
        both = promoted(BOTH, NEW, "stable")
        bad = withdrawn(both, replace(NEW, channels=(name,)), "It loses data.", NOW)
        with pytest.raises(ConfigError, match=r"0\.2\.0 .* was withdrawn: It loses data"):
            promoted(bad, NEW, "stable")


def test_withdrawing_is_for_all_channels_unless_one_is_named() -> None:
    both = promoted(BOTH, NEW, "stable", rollout=10)
    after = withdrawn(both, NEW, "It loses data.", NOW)
    for name in ("beta", "stable"):
        found = [one.withdrawn for one in after[name].releases if one.version == "0.2.0"]
        assert [(word.reason, word.at) for word in found if word] == [("It loses data.", NOW)] * 2
    one = withdrawn(both, replace(NEW, channels=("beta",), flavor="cpu"), "x", NOW)
    assert one["stable"] == both["stable"]
    assert [entry.flavor for entry in one["beta"].releases if entry.withdrawn] == ["cpu"]


def test_the_first_reason_stays_until_it_is_restored_as_far_as_it_was_rolled_out() -> None:
    both = promoted(BOTH, NEW, "stable", rollout=10)
    bad = withdrawn(both, NEW, "It loses data.", NOW)
    assert withdrawn(bad, NEW, "Something else.", NOW + 9) == bad
    assert restored(bad, NEW) == both


@pytest.mark.parametrize("reason", ["", "two\nlines", "x" * 301, "bell\a"])
def test_a_withdrawal_needs_a_reason_that_can_be_read(reason: str) -> None:
    with pytest.raises(ConfigError, match="no reason"):
        withdrawn(BOTH, NEW, reason, NOW)


def test_a_release_without_files_is_not_restored() -> None:
    gone = {"stable": channel(entry("0.2.0", withdrawn=BAD, gone=True))}
    with pytest.raises(ConfigError, match="its files were deleted"):
        restored(gone, NEW)


@given(percents=st.lists(st.integers(0, 100), min_size=1))
def test_a_rollout_is_what_was_said_last(percents: list[int]) -> None:
    found = dict(BOTH)
    for percent in percents:
        found = rolled_out(found, replace(NEW, channels=("beta",)), percent)
    last = percents[-1] if percents[-1] < 100 else None
    assert offers(found["beta"]) == {("0.2.0", "cpu"): last, ("0.2.0", "cu126"): last, ("0.1.0", "cpu"): None}
    assert found["stable"] == STABLE


@pytest.mark.parametrize(
    ("which", "said"),
    [
        (Which(version="9.9.9"), r"No channel lists 9\.9\.9: looked in beta, stable"),
        (Which(version="0.1.0", flavor="cu126"), "No channel lists 0.1.0, cu126"),
        (Which(version="0.2.0", channels=("stable",)), "looked in stable"),
        (Which(version="0.2.0", channels=("stabel",)), "There is no channel stabel"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(which: Which, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        rolled_out(BOTH, which, 50)
    assert "stable" in caught.value.usually or "0.1.0" in caught.value.usually


def test_a_channel_has_a_name_that_fits_into_a_path() -> None:
    with pytest.raises(ConfigError, match="no name for a channel"):
        promoted(BOTH, NEW, "../stable")


def test_publishing_again_does_not_offer_a_withdrawn_or_staged_release_to_everybody(tmp_path: Path) -> None:
    file = write_packed(tmp_path, "0.2.0", {ENTRY: program("two")})
    release = read_record(Release, file.read_bytes(), origin="test")
    empty = Channel(app=release.app, channel="stable", releases=())
    staged = with_release(empty, release, "releases/x.json", rollout=10)
    assert staged.releases[0].rollout == 10
    assert with_release(staged, release, "releases/x.json") == staged
    bad = withdrawn({"stable": staged}, NEW, "Bad.", NOW)["stable"]
    assert with_release(bad, release, "releases/x.json", rollout=100) == bad
