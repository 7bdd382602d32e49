"""How large files are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.delta.parts import OLDER, PART, WHOLE, Part, cut

MB = 2**20
sizes = st.integers(0, 3000 * MB)


@given(sizes, sizes)
def test_the_parts_are_the_file_and_no_piece_is_larger_than_a_reader_takes(new: int, old: int) -> None:
    parts = cut(new, old)

    assert sum(part.size for part in parts) == new
    assert [part.start for part in parts] == [number * PART for number in range(len(parts))]
    for part in parts:
        assert part.size <= WHOLE
        assert part.old_size == min(old, OLDER)
        assert 0 <= part.old_start <= part.old_start + part.old_size <= old


def test_a_small_file_is_one_part_of_all_that_there_was() -> None:
    assert cut(5, 7) == (Part(0, 5, 0, 7),)
    assert cut(WHOLE, OLDER) == (Part(0, WHOLE, 0, OLDER),)
    assert cut(0, 7) == (Part(0, 0, 0, 7),)
    assert cut(5, 0) == (Part(0, 5, 0, 0),)


@pytest.mark.parametrize("shift", [-10 * MB, -1, 0, 1, 10 * MB])
def test_a_part_sees_where_its_bytes_were_counted_from_either_end(shift: int) -> None:
    new, old = 500 * MB, 500 * MB + shift
    for part in cut(new, old)[2:-2]:
        for place in (part.start, part.start + shift):
            assert part.old_start <= place
            assert place + part.size <= part.old_start + part.old_size


def test_a_file_that_shrank_by_half_is_looked_up_by_its_share_of_the_way() -> None:
    middle = cut(200 * MB, 400 * MB)[6]
    assert middle.start == 96 * MB
    assert middle.old_start < 192 * MB < middle.old_start + middle.old_size
