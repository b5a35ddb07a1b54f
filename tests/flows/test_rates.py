"""Rates between real server processes: with Redis one caller has one allowance, whichever process is asked."""

import asyncio
import dataclasses
from collections.abc import Callable

import httpx

from settings import Settings
from tests.processes import ServerProcess

SECRET = "of the tests, thirty-two characters long"


async def test_an_address_has_one_allowance_at_all_processes(
    postgres_settings: Settings, redis_url: str, start_server: Callable[..., ServerProcess]
) -> None:
    settings = dataclasses.replace(postgres_settings, redis_url=redis_url, secret_key=SECRET, requests_per_window=10)
    urls = [start_server(settings).url, start_server(settings).url]
    async with httpx.AsyncClient(trust_env=False) as http:
        asked = {"query": "{ server { name } }"}
        answers = await asyncio.gather(*(http.post(f"{url}/graphql", json=asked) for url in urls * 10))

    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 10
