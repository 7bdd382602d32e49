"""What prune may take off and delete: decisions over any channels that there can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from tests.channel_index import BAD, LINUX, channel, entry

from lading.manifest.base import Platform
from lading.manifest.channel import Channel, ChannelEntry, Retired, RetiredRelease
from lading.publish.destination import Listed
from lading.publish.retention import divide, in_flight, retain, retired_after

PLATFORMS: tuple[Platform, ...] = (LINUX, "windows-x86_64")
DAY = 86_400
NOW = 1_800_000_000


@st.composite
def entries(draw: st.DrawFn) -> ChannelEntry:
    bad = draw(st.sampled_from([None, None, None, BAD]))
    return entry(
        f"0.{draw(st.integers(0, 8))}.0",
        flavor=draw(st.sampled_from(["cpu", "cu126"])),
        platform=draw(st.sampled_from(PLATFORMS)),
        rollout=draw(st.sampled_from([None, None, None, 0, 10, 99])),
        withdrawn=bad,
        gone=bad is not None and draw(st.booleans()),
    )


channels = st.dictionaries(
    st.sampled_from(["stable", "beta", "nightly"]),
    st.lists(entries(), max_size=14, unique_by=lambda one: one.key).map(lambda found: channel(*found)),
    min_size=1,
).map(lambda found: {name: one.model_copy(update={"channel": name}) for name, one in found.items()})


def sound(found: Channel, platform: str, flavor: str) -> list[str]:
    return [
        one.version for one in found.releases if one.for_everybody and (one.platform, one.flavor) == (platform, flavor)
    ]


@given(before=channels, keep=st.integers(1, 5))
def test_the_newest_versions_that_everybody_is_offered_stay_and_no_more_of_them(
    before: dict[str, Channel], keep: int
) -> None:
    after = retain(before, keep).channels
    assert after.keys() == before.keys()
    for name, found in before.items():
        for platform in PLATFORMS:
            for flavor in ("cpu", "cu126"):
                assert sound(after[name], platform, flavor) == sound(found, platform, flavor)[:keep]


@given(before=channels, keep=st.integers(1, 5))
def test_nothing_is_added_and_what_stays_is_as_it_was_but_for_withdrawn_files(
    before: dict[str, Channel], keep: int
) -> None:
    done = retain(before, keep)
    for name, found in done.channels.items():
        known = {one.key: one for one in before[name].releases}
        assert list(found.releases) == [one for one in found.releases if one.key in known]
        for one in found.releases:
            old = known[one.key]
            assert one == (old if old.withdrawn is None else old.model_copy(update={"target": None}))
    assert retain(done.channels, keep).channels == done.channels
    assert retain(done.channels, keep).unlisted == ()


@given(before=channels, keep=st.integers(1, 5))
def test_a_machine_is_offered_the_same_before_and_after(before: dict[str, Channel], keep: int) -> None:
    """Whatever its draw: covered by every stage, by none, or in between."""
    done = retain(before, keep).channels

    def newest(found: Channel, platform: str, flavor: str, draw: int) -> str | None:
        offered = [
            one.version
            for one in found.releases
            if (one.platform, one.flavor) == (platform, flavor)
            and one.target is not None
            and one.withdrawn is None
            and (one.rollout is None or draw < one.rollout)
        ]
        return max(offered, key=Version, default=None)

    for name, found in before.items():
        for platform in PLATFORMS:
            for flavor in ("cpu", "cu126"):
                for draw in (0, 9, 10, 98, 99):
                    wanted = newest(found, platform, flavor, draw)
                    assert newest(done[name], platform, flavor, draw) == wanted


@given(before=channels, keep=st.integers(1, 5))
def test_who_has_a_withdrawn_version_hears_of_it_until_something_newer_is_for_everybody(
    before: dict[str, Channel], keep: int
) -> None:
    done = retain(before, keep).channels
    for name, found in before.items():
        for one in found.releases:
            if one.withdrawn is None:
                continue
            best = max(sound(found, one.platform, one.flavor), key=Version, default=None)
            ahead = best is None or Version(one.version) > Version(best)
            after = done[name].entry(*one.key)  # type: ignore[arg-type]
            assert (after is not None) == ahead
            assert after is None or (after.withdrawn == one.withdrawn and after.target is None)


@given(before=channels, keep=st.integers(1, 5))
def test_everything_that_goes_is_told_with_a_reason(before: dict[str, Channel], keep: int) -> None:
    done = retain(before, keep)
    had = {(name, one.target) for name, found in before.items() for one in found.releases if one.target}
    has = {(name, one.target) for name, found in done.channels.items() for one in found.releases if one.target}
    assert {(gone.channel, gone.entry.target) for gone in done.unlisted} == had - has
    assert all(gone.why for gone in done.unlisted)
    assert done.targets == {target for _, target in has}


def test_at_least_one_version_is_kept() -> None:
    with pytest.raises(ValueError, match="at least one"):
        retain({"stable": channel(entry("0.1.0"))}, 0)


listings = st.dictionaries(
    st.sampled_from([f"assets/core/{number}/a.json" for number in range(9)]), st.floats(-5.0, 3 * DAY)
)
names = st.sets(st.sampled_from([f"assets/core/{number}/a.json" for number in range(9)]))


@given(there=listings, needed=names, waiting=names, grace=st.sampled_from([0, DAY]))
def test_nothing_that_is_needed_in_flight_or_new_is_ever_deleted(
    there: dict[str, float], needed: set[str], waiting: set[str], grace: int
) -> None:
    room = divide([Listed(name=name, size=1, age=age) for name, age in there.items()], needed, waiting, grace)
    removed, wait, keep = ({item.name for item in part} for part in (room.remove, room.wait, room.keep))
    assert removed | wait | keep == there.keys()
    assert len(removed) + len(wait) + len(keep) == len(there)
    assert keep == needed & there.keys()
    assert removed.isdisjoint(needed | waiting)
    assert all(there[name] >= grace or grace == 0 for name in removed)
    assert {name for name in there if name not in needed | waiting and there[name] >= grace} <= removed


def test_a_components_record_is_the_first_of_it_to_be_deleted() -> None:
    there = [Listed(name=name, size=1, age=9.0) for name in ("a.tar.zst", "a.tar.zst.sha256", "a.json", "a.index.zst")]
    assert divide(there, (), (), 0).remove[0].name == "a.json"


def test_what_was_taken_off_is_on_record_for_the_grace_period() -> None:
    def on_record(target: str, at: int) -> RetiredRelease:
        return RetiredRelease(target=target, sha256="0" * 64, at=at)

    known = Retired(releases=(on_record("releases/old", NOW - DAY), on_record("releases/recent", NOW - DAY + 1)))
    assert [one.target for one in in_flight(known, NOW, DAY)] == ["releases/recent"]
    after = retired_after(known, {"releases/new": "1" * 64}, NOW, DAY)
    assert {one.target: one.at for one in after.releases} == {
        "releases/recent": NOW - DAY + 1, "releases/new": NOW,
    }  # fmt: skip
    assert in_flight(after, NOW, 0) == ()
