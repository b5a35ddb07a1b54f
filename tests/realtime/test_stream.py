"""Streams of one topic: handed on to in step by one reading, aside while they wait, and by nothing that is known for too long."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from realtime import fanout, log, stream
from realtime.cursor import Cursor, Gap, GapReason
from realtime.sources import STALE_S, Item
from realtime.stream import Stream, look
from resolvers.live import LiveStream
from tests.connected import a_device, a_product, until
from tests.house import HouseTester
from tests.transport.following import Follower, Followers, followers
from tests.transport.test_streams import PRODUCT, names, publish


@pytest.fixture
async def token(tester: HouseTester) -> str:
    found = await tester.owner()
    await a_device(await a_product(tester))
    return found


@pytest.fixture
async def different(tester: HouseTester, token: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Followers, list[Follower]]]:
    """Five subscriptions that all differ, each in step in a stream of its own, and past graphql-core's first answer.

    However slow the machine is, none goes aside because nobody came to look at what its viewer may.
    """
    monkeypatch.setattr(stream, "STALE_S", 1e9)
    async with followers(tester) as all_of_them:
        followed = []
        for n in range(5):
            query = f"subscription {{ e{n}: events(productId: {PRODUCT}) {{ cursor event {{ name }} gap {{ reason }} }} }}"
            followed.append(await all_of_them.follow(query, token))
        await publish(tester, "first")
        await until(lambda: [names(each) for each in followed] == [["first"]] * 5)
        await publish(tester, "second")
        await until(lambda: [names(each) for each in followed] == [["first", "second"]] * 5)
        await until(lambda: all(each.is_shared and stream_of(each).is_in_step for each in followed))
        yield all_of_them, followed


def stream_of(follower: Follower) -> Stream:
    found = follower.subscription._stream
    assert found is not None
    return found


def stop_looking(all_of_them: Followers) -> None:
    """Nobody looks but the streams themselves, and who is told to."""
    assert all_of_them.fanout._watching is not None
    all_of_them.fanout._watching.cancel()


def heard(followed: list[Follower]) -> list[list[str]]:
    """Behind the two that brought them in step."""
    return [names(each)[2:] for each in followed]


async def test_streams_that_all_differ_are_handed_on_to_by_one_reader_and_no_task_of_their_own(
    tester: HouseTester, different: tuple[Followers, list[Follower]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, followed = different
    monkeypatch.setattr(Stream, "_go_aside", lambda self: pytest.fail("nothing has to be waited for"))
    await publish(tester, "a", "b")
    await until(lambda: heard(followed) == [["a", "b"]] * 5)

    assert len(tester.house.dispatcher.topic(PRODUCT).readers) == 1
    assert len({id(stream_of(each)) for each in followed}) == 5


async def test_what_alike_streams_are_told_is_found_once(
    tester: HouseTester, different: tuple[Followers, list[Follower]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, followed = different
    asked: list[int] = []
    messages_at_once = LiveStream.messages_at_once

    def counted(self: LiveStream[Any], entries: Any) -> Any:
        asked.append(len(entries))
        return messages_at_once(self, entries)

    monkeypatch.setattr(LiveStream, "messages_at_once", counted)
    await publish(tester, "a")
    await until(lambda: heard(followed) == [["a"]] * 5)

    assert asked == [1]


async def test_a_stream_that_has_to_wait_holds_nobody_up_and_comes_back_in_step_with_all_it_missed(
    tester: HouseTester, different: tuple[Followers, list[Follower]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, followed = different
    slow, others = followed[0], followed[1:]
    may_go_on, prepare = asyncio.Event(), slow.subscription.prepare

    async def waits(entries: Any) -> list[Item]:
        await may_go_on.wait()
        return await prepare(entries)

    monkeypatch.setattr(slow.subscription, "prepare", waits)
    monkeypatch.setattr(slow.subscription, "prepare_at_once", lambda messages: None)
    await publish(tester, "a")
    await until(lambda: heard(others) == [["a"]] * 4)
    await publish(tester, "b")
    await until(lambda: heard(others) == [["a", "b"]] * 4)
    while_waiting = heard([slow]), stream_of(slow).is_in_step
    monkeypatch.undo()
    may_go_on.set()
    await until(lambda: heard([slow]) == [["a", "b"]] and stream_of(slow).is_in_step)
    await publish(tester, "c")
    await until(lambda: heard(followed) == [["a", "b", "c"]] * 5)

    assert while_waiting == ([[]], False)


async def test_a_stream_that_fails_in_its_turn_takes_nothing_from_the_others(
    tester: HouseTester, different: tuple[Followers, list[Follower]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, followed = different

    def fails(messages: object) -> None:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(followed[2].subscription, "prepare_at_once", fails)
    await publish(tester, "a")
    await until(lambda: heard(followed) == [["a"]] * 5)

    assert [record.message for record in caplog.records if record.exc_info] == ["A stream failed; its followers go on alone."]


async def test_a_round_gives_everything_else_its_turn(
    tester: HouseTester, different: tuple[Followers, list[Follower]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time for a turn the loop goes round between any two streams."""
    _, followed = different
    monkeypatch.setattr(fanout, "TURN_S", 0.0)
    told: list[str] = []
    for each in followed:
        write = each.sink.write
        monkeypatch.setattr(each.sink, "write", lambda text, write=write: (told.append("write"), write(text)))

    async def others() -> None:
        while told.count("write") < 5:
            if told:
                told.append("turn")
            await asyncio.sleep(0)

    turns = asyncio.create_task(others())
    await publish(tester, "a")
    await turns

    places = [place for place, what in enumerate(told) if what == "write"]
    assert len(places) == 5
    assert all(later - earlier > 1 for earlier, later in pairwise(places))


# ── authority ──
async def test_one_look_asks_once_for_all_streams_of_a_viewer(
    different: tuple[Followers, list[Follower]], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them, followed = different
    asked: list[object] = []
    check = LiveStream.check
    stop_looking(all_of_them)

    async def counted(self: LiveStream[Any]) -> Any:
        asked.append(self.authority_key)
        return await check(self)

    monkeypatch.setattr(LiveStream, "check", counted)
    before = asyncio.get_running_loop().time()
    await asyncio.sleep(0.11)  # what was found just before would do
    streams = [stream_of(each) for each in followed]
    await look(streams)

    assert asked == [followed[0].subscription.source.authority_key]
    assert all(each.checked_at > before for each in streams)


async def test_nothing_is_given_out_by_what_has_been_known_of_a_viewer_for_too_long(
    tester: HouseTester, different: tuple[Followers, list[Follower]], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them, followed = different
    stop_looking(all_of_them)
    monkeypatch.setattr(stream, "STALE_S", STALE_S)
    may_answer, check = asyncio.Event(), LiveStream.check
    asked = 0

    async def slowly(self: LiveStream[Any]) -> Any:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        return await check(self)

    monkeypatch.setattr(LiveStream, "check", slowly)
    for each in followed:
        each.subscription.source._following.checked_at -= STALE_S  # type: ignore[attr-defined]  # a LiveStream's
        stream_of(each).note_age()
    await publish(tester, "secret")
    await until(lambda: asked == 5)
    before = heard(followed)
    may_answer.set()
    await until(lambda: heard(followed) == [["secret"]] * 5)

    assert before == [[]] * 5


async def test_what_nobody_can_tell_now_is_asked_again_at_the_next_look(tester: HouseTester, token: str) -> None:
    async with followers(tester) as all_of_them:
        source = (await all_of_them.follow(token=token, productId=PRODUCT)).subscription.source
        viewer, now = source._following.viewer, asyncio.get_running_loop().time()  # type: ignore[attr-defined]  # a LiveStream's
        source.renew(None)

        assert source._following.viewer is viewer  # type: ignore[attr-defined]  # as above
        assert source.checked_at >= now


# ── gaps ──
async def test_who_had_more_than_a_gap_takes_is_not_told_of_it_and_begins_nowhere_anew(
    tester: HouseTester, different: tuple[Followers, list[Follower]]
) -> None:
    """An early follower was sent back to the end of a gap of its stream, and heard again what lies between."""
    _, followed = different
    one, early = stream_of(followed[0]), followed[1]
    recalled: list[object] = []

    class Early:
        source, view, lane = early.subscription.source, early.subscription.view, early.subscription.lane

        def recall(self, begin: object, error: Exception | None = None) -> None:
            recalled.append(begin)

    for _ in range(2):
        assert one.join(Early(), one.position + (10 if not one._early else 5))  # type: ignore[arg-type]  # as much as it needs
    epoch, place = "0" * 16, one.position
    gap = Gap(GapReason.RETENTION, Cursor(epoch, place, 0), Cursor(epoch, place + 7, 0))
    one.break_off(gap)

    assert recalled == [place + 10, gap]


async def test_a_restored_database_is_told_to_whoever_had_how_much_ever(
    tester: HouseTester, different: tuple[Followers, list[Follower]]
) -> None:
    all_of_them, followed = different
    await log.begin_new_epoch()
    await until(lambda: [each.messages[-1]["gap"] for each in followed] == [{"reason": "RESTORED"}] * 5)
    await until(lambda: all(each.is_shared for each in followed))
    await publish(tester, "after")
    await until(lambda: [(each.messages[-1]["event"] or {}).get("name") for each in followed] == ["after"] * 5)

    assert [len(each.messages) for each in followed] == [4] * 5
    assert len(all_of_them.fanout) == 5
