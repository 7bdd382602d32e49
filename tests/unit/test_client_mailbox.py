"""What waits for a listener that is slower than an install."""

from __future__ import annotations

import asyncio

import pytest

from lading.client.finished import Finished
from lading.client.mailbox import LIMIT, Mailbox
from lading.errors import DiskFull
from lading.manifest.base import Record
from lading.progress import ProgressEvent


class Answer(Record):
    """A result."""

    value: int = 1


def progress(done: int) -> ProgressEvent:
    return ProgressEvent(kind="progress", phase="fetching", done=done)


def begin(phase: str) -> ProgressEvent:
    return ProgressEvent(kind="begin", phase=phase)


async def everything(mailbox: Mailbox[Answer]) -> list[ProgressEvent | Finished[Answer]]:
    taken = []
    while True:
        taken.append(await mailbox.take())
        if isinstance(taken[-1], Finished):
            return taken


def test_of_waiting_progress_only_the_latest_is_delivered_and_the_rest_in_order() -> None:
    async def scene() -> list[ProgressEvent | Finished[Answer]]:
        mailbox: Mailbox[Answer] = Mailbox()
        for event in (begin("a"), progress(1), progress(2), begin("b"), progress(3), progress(4), progress(5)):
            mailbox.put(event)
        mailbox.end(Finished(result=Answer()))
        return await everything(mailbox)

    assert asyncio.run(scene()) == [begin("a"), progress(2), begin("b"), progress(5), Finished(result=Answer())]


def test_never_more_than_the_limit_waits_and_the_last_word_is_always_there() -> None:
    async def scene() -> list[ProgressEvent | Finished[Answer]]:
        mailbox: Mailbox[Answer] = Mailbox()
        for number in range(3 * LIMIT):
            mailbox.put(begin(str(number)))
        mailbox.end(Finished(error=DiskFull("full")))
        return await everything(mailbox)

    taken = asyncio.run(scene())
    assert len(taken) == LIMIT + 1
    assert taken[0] == begin(str(2 * LIMIT)), "the oldest went"
    assert isinstance(taken[-1], Finished)
    with pytest.raises(DiskFull, match="full"):
        taken[-1].unwrap()


def test_whoever_waits_is_woken_by_the_next_event_and_by_the_last_word() -> None:
    async def scene() -> list[ProgressEvent | Finished[Answer]]:
        mailbox: Mailbox[Answer] = Mailbox()
        reader = asyncio.create_task(everything(mailbox))
        await asyncio.sleep(0)
        mailbox.put(progress(1))
        await asyncio.sleep(0)
        mailbox.put(progress(2))
        await asyncio.sleep(0)
        mailbox.end(Finished(result=Answer(value=2)))
        return await reader

    assert asyncio.run(scene()) == [progress(1), progress(2), Finished(result=Answer(value=2))]


def test_the_last_word_comes_after_what_was_said_before_it_and_stays() -> None:
    async def scene() -> list[ProgressEvent | Finished[Answer]]:
        mailbox: Mailbox[Answer] = Mailbox()
        mailbox.end(Finished(result=Answer()))
        mailbox.put(progress(9))  # a thread's last figure may arrive after its end
        return [*await everything(mailbox), await mailbox.take()]

    assert asyncio.run(scene()) == [progress(9), Finished(result=Answer()), Finished(result=Answer())]


def test_an_end_without_anything_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(RuntimeError, match="neither"):
        Finished[Answer]().unwrap()
    assert Finished(result=Answer(value=3)).unwrap() == Answer(value=3)
