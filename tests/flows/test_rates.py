"""Rates between real server processes: with Redis one caller has one allowance, whichever process is asked."""

import asyncio
import dataclasses
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from settings import Settings
from tests import servers
from tests.processes import ServerProcess

SECRET = "of the tests, thirty-two characters long"


@pytest.fixture
def own_redis() -> Iterator[str]:
    """In the run's own, other tests' servers spend from the same address."""
    with servers.valkey() as server:
        yield server.url


# However long Redis takes to answer: a server that loses patience counts by itself, which is another test's.
PATIENT = (sys.executable, "-c", "import cli; from transport import shared_rates; shared_rates.ANSWER_S = 60; cli.main()", "serve")


async def test_an_address_has_one_allowance_at_all_processes(
    postgres_settings: Settings, own_redis: str, start_server: Callable[..., ServerProcess]
) -> None:
    settings = dataclasses.replace(postgres_settings, redis_url=own_redis, secret_key=SECRET, requests_per_window=10)
    urls = [start_server(settings, command=PATIENT).url for _ in range(2)]
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        asked = {"query": "{ server { name } }"}
        answers = await asyncio.gather(*(http.post(f"{url}/graphql", json=asked) for url in urls * 10))

    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 10
