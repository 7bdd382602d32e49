"""What a machine is offered: withdrawals and staged rollouts, as decisions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.channel_index import APP, BAD, LINUX, channel, entry

from lading.errors import NotOffered
from lading.manifest.base import canonical_json, read_record
from lading.manifest.channel import Channel, ChannelEntry
from lading.store.choice import choose_entry, newest_of_each
from lading.store.installation import installation, installation_file, known_installation
from lading.store.rollout import Asked, draw, needs_draw, waiting, withdrawal_of_installed
from lading.store.state import State

MACHINES = [f"{number:032x}" for number in range(20_000)]
ANYBODY = Asked(platform=LINUX)
ids = st.text("0123456789abcdef", min_size=32, max_size=32)
versions = st.builds("{}.{}.{}".format, *[st.integers(0, 30)] * 3)


def version_for(found: Channel, asked: Asked = ANYBODY) -> str:
    return choose_entry(found, asked).version


# -- the draw


@given(machine=ids, version=versions)
def test_a_draw_is_always_the_same_and_between_0_and_99(machine: str, version: str) -> None:
    assert 0 <= draw(machine, APP, version) == draw(machine, APP, version) <= 99


def test_the_draw_is_the_documented_one() -> None:
    """Other programs may compute it; a changed draw would change who is among the first in the middle of a rollout."""
    assert [draw("0" * 32, "demo", version) for version in ("0.1.0", "0.2.0", "0.3.0")] == [30, 4, 61]


def test_every_draw_is_equally_likely() -> None:
    drawn = Counter(draw(machine, APP, "0.2.0") for machine in MACHINES)
    share = len(MACHINES) / 100
    assert set(drawn) == set(range(100))
    chi_squared = sum((count - share) ** 2 / share for count in drawn.values())
    assert chi_squared < 149, "99 degrees of freedom: exceeded by one in a thousand"


def test_draws_for_two_versions_have_nothing_to_do_with_each_other() -> None:
    first = [machine for machine in MACHINES if draw(machine, APP, "0.2.0") < 10]
    again = [machine for machine in first if draw(machine, APP, "0.3.0") < 10]
    assert 0.07 < len(again) / len(first) < 0.13


@given(machine=ids, version=versions, percents=st.lists(st.integers(0, 100), min_size=2, max_size=6))
def test_raising_the_percentage_takes_a_release_from_nobody(machine: str, version: str, percents: list[int]) -> None:
    asked = replace(ANYBODY, machine=machine)
    offered = []
    for percent in sorted(percents):
        found = channel(entry("0.0.0"), entry(version + "0", rollout=None if percent == 100 else percent))
        offered.append(version_for(found, asked) != "0.0.0")
    assert offered == sorted(offered)


# -- who gets what


def test_a_machine_gets_the_newest_release_that_its_draw_covers() -> None:
    found = channel(entry("0.3.0", rollout=62), entry("0.2.0", rollout=50), entry("0.1.0"))
    machine = "0" * 32  # draws 61 for 0.3.0 and 4 for 0.2.0
    assert needs_draw(found, ANYBODY)
    assert version_for(found, replace(ANYBODY, machine=machine)) == "0.3.0"
    later = channel(entry("0.3.0", rollout=61), entry("0.2.0", rollout=5), entry("0.1.0"))
    assert version_for(later, replace(ANYBODY, machine=machine)) == "0.2.0"
    closed = channel(entry("0.3.0", rollout=61), entry("0.2.0", rollout=4), entry("0.1.0"))
    assert version_for(closed, replace(ANYBODY, machine=machine)) == "0.1.0"
    assert version_for(found) == "0.1.0", "who has no id is not among the first"


@pytest.mark.parametrize("rollout", [0, 1, 50])
def test_who_names_a_version_gets_it_whatever_the_draw(rollout: int) -> None:
    found = channel(entry("0.2.0", rollout=rollout), entry("0.1.0"))
    asked = replace(ANYBODY, version="v0.2.0")
    assert version_for(found, asked) == "0.2.0"
    assert not needs_draw(found, asked)


def test_who_has_a_version_keeps_it_when_the_percentage_falls() -> None:
    found = channel(entry("0.2.0", rollout=0), entry("0.1.0"))
    assert version_for(found, replace(ANYBODY, installed={"cpu": "0.2.0"})) == "0.2.0"
    assert version_for(found, replace(ANYBODY, installed={"cu126": "0.2.0"})) == "0.1.0", "another flavor's"


def test_a_newer_version_that_is_not_offered_yet_is_told() -> None:
    found = channel(entry("0.3.0", rollout=0, withdrawn=BAD), entry("0.2.0", rollout=0), entry("0.1.0"))
    asked = replace(ANYBODY, flavor="cpu")
    assert waiting(found, asked, "0.1.0") == "0.2.0"
    assert waiting(found, replace(asked, installed={"cpu": "0.2.0"}), "0.2.0") is None
    assert waiting(found, replace(asked, installed={"cpu": "0.9.0"}), "0.1.0") is None, "older than what is in use"
    assert waiting(found, replace(asked, flavor="cu126"), "0.1.0") is None


def test_a_channel_with_nothing_but_a_stage_says_how_to_have_it_all_the_same() -> None:
    with pytest.raises(NotOffered, match=r"0\.2\.0 .* not offered to this machine yet") as caught:
        version_for(channel(entry("0.2.0", rollout=5)))
    assert "5 %" in caught.value.usually
    assert "--version 0.2.0" in caught.value.todo


def test_flavors_are_offered_each_by_itself() -> None:
    found = channel(
        entry("0.2.0", withdrawn=BAD), entry("0.2.0", flavor="cu126"), entry("0.1.0"), entry("0.1.0", flavor="cu126")
    )
    assert {(one.flavor, one.version) for one in newest_of_each(found, ANYBODY)} == {
        ("cpu", "0.1.0"), ("cu126", "0.2.0"),
    }  # fmt: skip


# -- withdrawn


def test_what_is_withdrawn_is_taken_only_by_name_and_with_consent() -> None:
    found = channel(entry("0.2.0", withdrawn=BAD), entry("0.1.0"))
    assert version_for(found) == "0.1.0"
    assert version_for(found, replace(ANYBODY, take_withdrawn=True)) == "0.1.0"
    named = replace(ANYBODY, version="0.2.0")
    with pytest.raises(NotOffered, match=r"0\.2\.0 .* was withdrawn by its publisher: It loses data\.") as caught:
        version_for(found, named)
    assert "--version 0.2.0 --force" in caught.value.todo
    assert version_for(found, replace(named, take_withdrawn=True)) == "0.2.0"


def test_what_is_withdrawn_and_deleted_is_not_taken_whatever_is_said() -> None:
    found = channel(entry("0.2.0", withdrawn=BAD, gone=True), entry("0.1.0"))
    with pytest.raises(NotOffered, match="withdrawn") as caught:
        version_for(found, replace(ANYBODY, version="0.2.0", take_withdrawn=True))
    assert "files were deleted" in caught.value.usually
    assert "--force" not in caught.value.todo


def test_a_channel_in_which_everything_is_withdrawn_says_so_with_the_latest_reason() -> None:
    other = BAD.model_copy(update={"reason": "Older trouble."})
    with pytest.raises(NotOffered, match=r"0\.2\.0 .* It loses data\. The channel stable has no other"):
        version_for(channel(entry("0.2.0", withdrawn=BAD), entry("0.1.0", withdrawn=other)))


def test_who_has_a_withdrawn_version_is_offered_the_one_before_and_told_why() -> None:
    found = channel(entry("0.3.0", withdrawn=BAD), entry("0.2.0"), entry("0.1.0"))
    asked = Asked(platform=LINUX, flavor="cpu", installed={"cpu": "0.3.0"})
    assert withdrawal_of_installed(found, asked) == BAD
    assert version_for(found, asked) == "0.2.0"
    assert withdrawal_of_installed(found, replace(asked, installed={"cpu": "0.2.0"})) is None
    assert withdrawal_of_installed(found, replace(asked, flavor="cu126")) is None


def test_what_was_rolled_back_from_is_no_way_out_of_a_withdrawn_version() -> None:
    found = channel(entry("0.4.0"), entry("0.3.0"), entry("0.2.0", withdrawn=BAD), entry("0.1.0"))
    left = Asked(platform=LINUX, flavor="cpu", installed={"cpu": "0.2.0"}, held="0.4.0")
    assert version_for(found, left) == "0.1.0"
    assert version_for(found, replace(left, held="0.3.0")) == "0.4.0"
    sound = channel(entry("0.4.0"), entry("0.2.0"))
    assert version_for(sound, left) == "0.4.0", "what is held back is told, and decided elsewhere"


def test_a_withdrawn_version_is_forgotten_and_what_a_roll_back_left_stays_held() -> None:
    state = State().activated("a").activated("b").activated("c").holding("0.9.0")
    after = state.withdrawn("b", left="c")
    assert (after.history, after.held) == (("a", "b"), "0.9.0")
    assert after.previous("b", frozenset("abc")) == "a", "rolling back does not lead to what was withdrawn"


# -- the index


def test_an_index_says_no_more_than_it_must() -> None:
    plain = canonical_json(channel(entry("0.1.0"))).decode()
    assert "rollout" not in plain
    assert "withdrawn" not in plain
    everything = channel(entry("0.1.0", withdrawn=BAD, gone=True), entry("0.2.0", rollout=7))
    assert read_record(Channel, canonical_json(everything), origin="test") == everything
    each = len(canonical_json(channel(*[entry(f"0.{n}.0") for n in range(101)])))
    assert each < 101 * 220


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": None},
        {"rollout": 100},
        {"rollout": -1},
        {"rollout": 1.5},
        {"withdrawn": {"reason": "", "at": 1}},
        {"withdrawn": {"reason": "two\nlines", "at": 1}},
        {"withdrawn": {"reason": "x" * 301, "at": 1}},
        {"withdrawn": {"reason": "x"}},
        {"more": 1},
    ],
    ids=str,
)
def test_an_entry_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    good = entry("0.1.0").model_dump()
    with pytest.raises(ValidationError):
        ChannelEntry.model_validate(good | wrong)


# -- the installation's id


def test_an_id_is_random_made_once_and_survives(tmp_path: Path) -> None:
    data = [tmp_path / "one", tmp_path / "two"]
    for folder in data:
        installation_file(folder).parent.mkdir(parents=True)
        assert known_installation(folder) is None
    first, second = map(installation, data)
    assert first is not None
    assert first != second
    assert installation(data[0]) == known_installation(data[0]) == first


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema":"lading/installation/1","id":"XYZ"}\n'])
def test_a_damaged_id_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    installation_file(tmp_path).parent.mkdir()
    installation_file(tmp_path).write_bytes(damage)
    assert known_installation(tmp_path) is None
    made = installation(tmp_path)
    assert made is not None
    assert known_installation(tmp_path) == made
