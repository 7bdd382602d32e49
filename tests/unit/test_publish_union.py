"""How two changes of one channel are joined: decisions without a destination."""

from __future__ import annotations

import pytest

from lading.manifest.channel import ChannelEntry, Withdrawal
from lading.publish.union import Key, merged_entries


def entry(version: str, rollout: int | None = None, withdrawn: str = "") -> ChannelEntry:
    return ChannelEntry(
        version=version,
        platform="linux-x86_64",
        flavor="cu126",
        target=f"releases/demo/{version}/x.release.json",
        rollout=rollout,
        withdrawn=Withdrawal(reason=withdrawn, at=1) if withdrawn else None,
    )


def channel(*entries: ChannelEntry) -> dict[Key, ChannelEntry]:
    return {one.key: one for one in entries}


ONE, TWO = entry("1.0.0"), entry("2.0.0")
BAD = entry("1.0.0", withdrawn="it deletes files")


@pytest.mark.parametrize(
    ("before", "ours", "theirs", "expected"),
    [
        pytest.param([ONE], [ONE], [ONE], [ONE], id="nobody changed anything"),
        pytest.param([ONE], [ONE, TWO], [ONE], [ONE, TWO], id="added by the leader"),
        pytest.param([ONE], [ONE], [ONE, TWO], [ONE, TWO], id="added by the other"),
        pytest.param([], [ONE], [TWO], [ONE, TWO], id="never had anything in common"),
        pytest.param([ONE, TWO], [TWO], [ONE, TWO], [TWO], id="taken off by the leader"),
        pytest.param([ONE, TWO], [ONE, TWO], [TWO], [TWO], id="taken off by the other"),
        pytest.param([ONE], [BAD], [ONE], [BAD], id="withdrawn by the leader"),
        pytest.param([ONE], [ONE, TWO], [BAD], [BAD, TWO], id="withdrawn by the other"),
        pytest.param([ONE], [entry("1.0.0", 10)], [entry("1.0.0", 50)], [entry("1.0.0", 10)], id="both changed it"),
        pytest.param([ONE], [], [BAD], [BAD], id="taken off and withdrawn"),
    ],
)
def test_changes_of_both_sides_are_kept_and_the_leader_counts_where_they_disagree(
    before: list[ChannelEntry], ours: list[ChannelEntry], theirs: list[ChannelEntry], expected: list[ChannelEntry]
) -> None:
    merged = merged_entries(channel(*before), channel(*ours), channel(*theirs))
    assert sorted(merged, key=lambda one: one.version) == expected
