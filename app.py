"""The server: what a process opens at start-up, which door is where, and how it ends."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.ledger import TableLedger
from auth.oauth import OAuthServer
from auth.sealing import Sealer
from auth.signed_urls import UrlSigner
from auth.throttle import Throttle
from blobs import open_blobs
from fleet.billing import paying
from fleet.billing.tills import open_till, sandbox_of
from fleet.customers.consenting import Consents
from fleet.devices import counting
from fleet.devices.connecting import tell
from fleet.firmware import downloading
from fleet.house import House
from gateway.live import LiveFleet
from gateway.orders import Seat
from gateway.server import LEAVING_S, Gateway
from gateway.upgrade import GATEWAY
from mailer import open_mailer
from models.database import DatabaseUnreachable, database, opened, ping
from models.migrating import migrate
from models.one_process import only_process
from realtime.chosen_wakeup import open_wakeup
from realtime.commands import Commands
from realtime.dispatcher import Dispatcher
from realtime.fanout import Fanout
from realtime.flusher import Flusher
from realtime.lease import Lease
from resolvers.context import Context, context_for
from schema.build import build_schema
from schema.event import OF_THE_LOG
from settings import Settings
from transport import explorer, health, metrics, server
from transport.downloads import Download, Downloads
from transport.http import GraphQLDoor
from transport.oauth import OAuthEndpoints
from transport.oauth_deciding import OAuthPages
from transport.origins import readable_from
from transport.persisted import Persisted
from transport.shared_rates import Rates, open_rates
from transport.stripe_webhook import InProcess, StripeWebhook
from transport.watch import Watch
from worker import Worker

ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]  # the door itself refuses, with a sentence
GRAPHQL = "/graphql"
GOODBYE_S = 3.0  # of the drain's time; the rest is for device sockets that do not answer a close


def serve(settings: Settings) -> None:
    """Migrate, open the doors, serve until SIGTERM. Raises what keeps it from starting, each with a sentence for the operator."""
    with only_process(settings.data_dir) if settings.is_sqlite else nullcontext():
        asyncio.run(migrate(settings))
        app = App(settings)
        server.run(app, settings, drain=app.drain, ready=lambda _: print(f"Flotilla is open: {settings.public_url}/", flush=True))


def adopt_exempt(settings: Settings) -> list[str]:
    """The operator's `billing adopt`: the slugs of the organizations that got a customer and their trial."""

    async def adopted() -> list[str]:
        await migrate(settings)
        async with open_house(settings, LiveFleet()) as house:
            return await paying.adopt_exempt(house=house)

    with only_process(settings.data_dir) if settings.is_sqlite else nullcontext():
        return asyncio.run(adopted())


def recount(settings: Settings, *, repair: bool) -> tuple[list[counting.Difference], list[counting.GroupDifference]]:
    """The operator's `recount`: what was wrong with the kept counts of devices, and of groups; with `repair`, mended."""

    async def counted() -> tuple[list[counting.Difference], list[counting.GroupDifference]]:
        async with opened(settings, migrating=True):  # it reads every device: no limit of time
            found = await counting.differences(), await counting.differences_of_groups()
            if repair:
                await counting.repair()
            return found

    with only_process(settings.data_dir) if settings.is_sqlite else nullcontext():
        return asyncio.run(counted())


@asynccontextmanager
async def open_house(settings: Settings, live: LiveFleet, *, process: str | None = None) -> AsyncIterator[House]:
    """Everything a server process holds open, on a migrated database; closed in the opposite order.

    `live` stands behind the gateway: commands of other processes for its devices are handed to it.
    """
    sealer, deliveries = Sealer(settings.secret_key), InProcess()
    name = process or f"{socket.gethostname()[:12]}-{os.getpid()}-{secrets.token_hex(4)}"
    async with (
        database(settings),
        open_wakeup(settings) as wakeup,
        Lease(name, settings, tell=tell, lost=live.lost) as lease,
        Flusher(wakeup) as flusher,
        Dispatcher(wakeup) as dispatcher,
        Commands(name, wakeup, deliver=live.deliver) as commands,
        open_till(settings, sealer, deliver=deliveries) as till,
    ):
        house = House(
            settings=settings,
            sealer=sealer,
            signer=UrlSigner(settings.secret_key),
            throttle=Throttle(TableLedger(), lifted=not settings.rate_limits),
            mailer=open_mailer(settings),
            blobs=open_blobs(settings),
            wakeup=wakeup,
            flusher=flusher,
            dispatcher=dispatcher,
            commands=commands,
            process=lease,
            till=till,
        )
        deliveries.door = StripeWebhook(partial(paying.heard, house=house))
        yield house


class App:
    """The ASGI application. The house opens with the server's lifespan; until then nothing answers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._persisted = Persisted(settings)  # here, so that the operator hears of a bad file before anything opens
        self._lifespan = Starlette(lifespan=self._opened)
        self._doors: Starlette | None = None
        self._straight: ASGIApp | None = None  # to GraphQL, past the search for a route and what goes around each answer there
        self._house: House | None = None
        self._gateway: Gateway[Seat] | None = None
        self._graphql: GraphQLDoor | None = None
        self._is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp | None = self._lifespan if scope["type"] == "lifespan" else self._doors
        if scope["type"] == "http" and scope["path"] == GRAPHQL:
            app = self._straight
        assert app is not None, "uvicorn sends requests only after the lifespan has begun"
        await app(scope, receive, send)

    async def drain(self, seconds: float) -> None:
        """Send everybody away within `seconds`: callers with 1012, devices with 1012 and their own jitter."""
        assert self._house is not None
        assert self._graphql is not None
        assert self._gateway is not None
        self._is_draining = True
        await asyncio.gather(
            self._house.process.drain(),
            self._graphql.sockets.drain(seconds),
            self._gateway.close_all(over_s=GOODBYE_S, grace_s=seconds - GOODBYE_S - LEAVING_S),
        )

    @asynccontextmanager
    async def _opened(self, _: Starlette) -> AsyncIterator[dict[str, object]]:
        live = LiveFleet()
        async with (
            open_house(self._settings, live) as house,
            live.serving(house) as gateway,
            open_rates(self._settings) as rates,
            Fanout(house.dispatcher) as fanout,
        ):
            self._house, self._gateway = house, gateway
            self._graphql = GraphQLDoor(
                build_schema(),
                self._context,
                self._settings,
                persisted=self._persisted,
                rates=rates,
                fanout=fanout,
                of_the_log=OF_THE_LOG,
            )
            self._doors = Starlette(routes=self._routes(house, self._graphql, rates))
            metrics.DEVICES.set_function(lambda: len(gateway.connections))
            metrics.TASKS.set_function(lambda: len(asyncio.all_tasks()))
            async with Worker(house), Watch(self._graphql.sockets):
                yield {GATEWAY: gateway}

    async def _context(self, connection: HTTPConnection, authorization: str | None) -> Context:
        assert self._house is not None
        return await context_for(self._house, connection, authorization)

    def _routes(self, house: House, graphql: GraphQLDoor, rates: Rates) -> list[BaseRoute]:
        async def for_device(request: Request) -> Download:
            asked = request.path_params
            return _shaped(await downloading.resolve(asked["device"], asked["update"], asked["ticket"], now=datetime.now(UTC), house=house))

        async def for_team(request: Request) -> Download:
            asked = request.path_params
            return _shaped(await downloading.resolve_for_team(asked["firmware"], asked["ticket"], now=datetime.now(UTC), house=house))

        return [
            *self._graphql_routes(graphql),
            *_oauth_routes(house, rates),
            Route("/firmware/download/{firmware}/{ticket}", Downloads(for_team).answer, methods=ANY_METHOD),
            Route("/firmware/{device}/{update}/{ticket}", Downloads(for_device).answer, methods=ANY_METHOD),
            *_billing_routes(house),
            *health.routes({"database": _database, "blobs": house.blobs.ping}, is_draining=lambda: self._is_draining),
            *explorer.routes(),
        ]

    def _graphql_routes(self, graphql: GraphQLDoor) -> list[BaseRoute]:
        requests, sockets = readable_from((self._settings.public_url, *self._settings.allowed_origins), graphql.routes(GRAPHQL))
        assert isinstance(requests, Route)
        self._straight = requests.app
        return [requests, sockets]


def _oauth_routes(house: House, rates: Rates) -> list[BaseRoute]:
    server = OAuthServer(Consents(house.settings), issuer=house.settings.public_url)
    return [*OAuthPages(server, house, rates).routes(), *OAuthEndpoints(server, house.settings, rates).routes()]


def _billing_routes(house: House) -> list[BaseRoute]:
    """Where the payment provider tells us; and its sandbox with its pages, only while it is one."""
    if house.till is None:
        return []
    sandbox = sandbox_of(house.till)
    told = StripeWebhook(partial(paying.heard, house=house)).routes()
    return [*told, Mount("/billing-sandbox", app=sandbox)] if sandbox else [*told]


def _shaped(file: downloading.File) -> Download:
    return Download(file.size, file.sha256, file.read_range, file.file_name, file.location)


async def _database() -> None:
    if not await ping():
        raise DatabaseUnreachable("The database does not answer.")
