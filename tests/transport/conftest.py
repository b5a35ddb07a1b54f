"""The toy app behind a real server, once for all tests of this room; and an app that customers log in to."""

import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.live import LiveFleet
from settings import Settings
from tests.house import HouseTester, open_house
from tests.oauth_house import Porch, porch


def _toy():  # type: ignore[no-untyped-def]  # tests are no package; the toy is a module of this folder
    if "transport_toy" not in sys.modules:
        spec = importlib.util.spec_from_file_location("transport_toy", Path(__file__).with_name("toy.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules["transport_toy"] = module
        spec.loader.exec_module(module)
    return sys.modules["transport_toy"]


@pytest.fixture(scope="session")
def toy():  # type: ignore[no-untyped-def]
    return _toy()


@pytest.fixture(scope="session")
def server(toy) -> Iterator[object]:
    settings = Settings(rate_limits=False, request_timeout_s=60, call_timeout_s=0.1, upload_max_bytes=3 << 20, production=False)
    with toy.serving(settings) as running:
        yield running


@pytest.fixture
def hasty(toy) -> Iterator[object]:
    """A server that gives an operation two seconds."""
    with toy.serving(Settings(rate_limits=False, request_timeout_s=2, call_timeout_s=0)) as running:
        yield running


@pytest.fixture
async def client(server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def ask(client):
    """Send one operation as JSON and return the response."""

    async def ask(query: object, variables: object = None, **more: object) -> httpx.Response:
        headers = more.pop("headers", {})
        return await client.post("/graphql", json={"query": query, "variables": variables, **more}, headers=headers)

    return ask


@pytest.fixture
async def app(migrated_sqlite: Settings) -> AsyncIterator[Porch]:
    live = LiveFleet()
    async with open_house(migrated_sqlite, live) as house:
        tester = HouseTester(house, live=live)
        async with porch(tester) as opened:
            opened.more["tester"] = tester
            yield opened
