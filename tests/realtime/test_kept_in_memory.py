"""What a dispatcher keeps of the log: bounded in entries and in bytes, and so is what a reader takes of it at a time."""

import pytest

from models.transaction import transaction
from realtime import dispatcher as dispatching
from realtime import log
from realtime.chosen_wakeup import open_wakeup
from realtime.dispatcher import Dispatcher
from settings import Settings
from tests.realtime.samples import PRODUCT, an_event, device_id, until


async def test_what_is_in_memory_is_given_and_kept_by_its_bytes(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "RING_BYTES", 1 << 20)
    async with open_wakeup(Settings()) as chosen, Dispatcher(chosen) as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT)
        both = await dispatcher.subscribe(PRODUCT, device_id(1))
        written = []
        for _ in range(10):
            async with transaction():
                written += [entry.position for entry in await log.append(*(an_event(data="x" * (16 << 10)) for _ in range(10)))]
        await until(lambda: dispatcher.position == written[-1])

        assert 64 <= len(dispatcher._ring) <= 70
        assert dispatcher._ring_bytes == len(dispatcher._ring) << 14
        assert len(dispatcher._topics[PRODUCT].entries) == len(dispatcher._ring)
        for each in (reader, both):  # from the database, then from memory
            pages = [await each.next() for _ in range(7)]
            assert [len(page) for page in pages if isinstance(page, list)] == [16, 16, 16, 16, 16, 16, 4]
            assert [entry.position for page in pages if isinstance(page, list) for entry in page] == written
