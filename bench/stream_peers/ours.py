"""Our server's road from the log to the sockets: a house on SQLite, the GraphQL door, authority checked every second.

Each message to /publish is what a device publishes: it is committed to the log before anybody hears of it. `ours.py FOLDER unkept` leaves
the commit out and gives it to the dispatcher as if it had just been read: for a comparison with servers that keep nothing.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from models.device import Device
from models.migrating import migrate
from models.organization import Organization
from models.product import Product
from realtime.fanout import Fanout
from realtime.log import Entry, NewEntry
from resolvers.context import context_for
from schema.build import build_schema
from schema.event import OF_THE_LOG
from settings import Settings
from tests.house import HouseTester, open_house
from transport.http import GraphQLDoor
from transport.server import run

ID = "55ff6d04498b490123456789"


class Served:
    """The app; its house opens with the server."""

    def __init__(self, settings: Settings, *, is_kept: bool = True) -> None:
        self.settings = settings
        self.is_kept = is_kept
        self.token = ""
        self.app: Starlette = Starlette(lifespan=self.opened)

    @asynccontextmanager
    async def opened(self, app: Starlette) -> AsyncIterator[None]:
        await migrate(self.settings)
        async with open_house(self.settings) as house, Fanout(house.dispatcher) as fanout:
            tester = HouseTester(house)
            self.token = await tester.owner()
            team, now = await Organization.get(slug="acme"), datetime.now(UTC)
            product = await Product.create(number=1094, organization=team, slug="p", name="P", platform="PHOTON", created_at=now)
            await Device.create(device_id=ID, product=product, created_at=now)

            if not self.is_kept:  # or the dispatcher would find out, once a second, that the database has not heard of these
                house.dispatcher._look_at_the_ground = nothing  # type: ignore[method-assign]

            async def publish(socket: WebSocket) -> None:
                await socket.accept()
                under_way: set[asyncio.Task[object]] = set()
                try:
                    while True:
                        entry = NewEntry(1094, "event", "telemetry/temperature", datetime.now(UTC), ID, await socket.receive_text())
                        if not self.is_kept:
                            house.dispatcher._spread([Entry(house.dispatcher.position + 1, *entry, 1, house.dispatcher._end.epoch)])
                            continue
                        task = asyncio.ensure_future(house.flusher.publish(entry))
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                except WebSocketDisconnect:
                    pass

            door = GraphQLDoor(
                build_schema(), lambda *asked: context_for(house, *asked), self.settings, fanout=fanout, of_the_log=OF_THE_LOG
            )  # fmt: skip
            app.router.routes += [*door.routes(), WebSocketRoute("/publish", publish)]
            yield


async def nothing() -> None:
    pass


if __name__ == "__main__":
    settings = replace(Settings(), data_dir=Path(sys.argv[1]), secret_key="k" * 32, billing="off", rate_limits=False, port=0)
    served = Served(settings, is_kept="unkept" not in sys.argv)
    run(
        served.app,
        served.settings,
        ready=lambda port: print(json.dumps({"port": port, "publish": port, "token": served.token}), flush=True),
    )
