"""A log that goes back less far than a client remembers: it is told of the gap first, and hears everything after it."""

import asyncio
import shutil
from typing import Any

import pytest

from settings import Settings
from tests.clients import Watcher
from tests.faults.altered import serving
from tests.faults.scene import of_a_fleet, opened, until_equal
from tests.processes import SERVE


def told(client: Watcher) -> list[tuple[str | None, str | None]]:
    """The reason of a gap, and what was said, message by message."""
    messages = [message["data"]["events"] for message in client.messages if "data" in message]
    return [((message["gap"] or {}).get("reason"), (message["event"] or {}).get("data")) for message in messages]


@pytest.mark.parametrize("command", [SERVE, serving("believes_any_cursor")], ids=["as it is", "believes any cursor"])
async def test_a_client_of_a_database_restored_from_a_copy_is_told_and_goes_on(migrated_sqlite: Settings, start_server, command) -> None:
    """The new events take the places of those that were undone."""
    server = await asyncio.to_thread(start_server, of_a_fleet(migrated_sqlite), command=command)
    data = migrated_sqlite.data_dir
    async with opened([server], "") as scene, scene.resuming() as client:
        await scene.publish(10)
        server.stop()
        shutil.copytree(data, data.with_name("copy"))
        await asyncio.to_thread(server.start)
        await scene.publish(10)
        await client.until(lambda: len(told(client)) == 20)
        server.stop()
        shutil.rmtree(data)
        data.with_name("copy").rename(data)
        before = len(scene.said)
        await asyncio.to_thread(server.start)
        await scene.publish(20)
        await client.until(lambda: len(told(client)) > 20)
        await scene.publish(1)
        last = {text for text in scene.acknowledged if int(text.split()[1]) >= before}
        await client.until(lambda: told(client)[-1][1] in last and len(told(client)) > 21)

    if command is not SERVE:
        assert all(reason is None for reason, _ in told(client))
        assert last - {text for _, text in told(client)}, "a gap that nobody was told of"
        return
    assert told(client)[20] == ("RESTORED", None)
    assert all(reason is None and text in last for reason, text in told(client)[21:])


@pytest.mark.parametrize("alteration", ["sweeps_often", "believes_any_cursor"])
async def test_who_comes_back_after_the_log_was_purged_is_told_and_who_stayed_has_missed_nothing(
    migrated_postgres: Settings, start_server, alteration: str
) -> None:
    settings = of_a_fleet(migrated_postgres, log_max_rows=50)
    server = await asyncio.to_thread(start_server, settings, command=serving(alteration))
    async with opened([server], settings.database_url) as scene, scene.resuming() as stayed:
        for part in range(1, 5):
            await scene.publish(50)
            await stayed.until(lambda part=part: len(told(stayed)) == 50 * part)  # type: ignore[misc]

        async def kept() -> Any:
            return len(await scene.log())

        await until_equal(kept, 50)
        log = await scene.log()
        server.stop()  # in memory it would still have them
        await asyncio.to_thread(server.start)
        async with scene.resuming() as back:
            await back.until(lambda: bool(told(back)) and told(back)[-1][1] == log[-1][1])

    assert {text for _, text in told(stayed)} == scene.acknowledged
    heard = [text for _, text in told(back)]
    if alteration == "believes_any_cursor":
        assert heard == [text for _, text in log], "a gap that nobody was told of"
    else:
        assert heard == [None, *(text for _, text in log)]
        assert told(back)[0] == ("RETENTION", None)
