"""Alive, ready, counted: what a supervisor asks, answered in bounded time."""

import asyncio
import time

import httpx
from starlette.applications import Starlette

from transport import health


def client(checks, **options) -> httpx.AsyncClient:
    app = Starlette(routes=health.routes(checks, **options))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def well() -> None:
    pass


async def test_healthz_touches_nothing():
    async def never() -> None:
        raise AssertionError

    async with client({"database": never}) as http:
        assert (await http.get("/healthz")).status_code == 200


async def test_readyz_names_what_failed_and_not_why():
    async def broken() -> None:
        raise RuntimeError("password=secret")

    async with client({"database": well, "redis": broken}) as http:
        answer = await http.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "draining": False, "checks": {"database": "ok", "redis": "failed"}}


async def test_readyz_never_hangs_and_asks_a_hanging_dependency_once():
    asked = 0

    async def hanging() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(60)

    async with client({"database": hanging}) as http:
        started = time.monotonic()
        answers = [await http.get("/readyz") for _ in range(2)]

    assert 3.9 < time.monotonic() - started < 30
    assert [answer.json()["checks"] for answer in answers] == [{"database": "no answer within 2 s"}] * 2
    assert asked == 1


async def test_readyz_is_false_while_draining():
    async with client({"database": well}, is_draining=lambda: True) as http:
        answer = await http.get("/readyz")

    assert (answer.status_code, answer.json()["ready"]) == (503, False)


async def test_metrics_count_what_the_doors_did():
    async with client({}) as http:
        answer = await http.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert "flotilla_graphql_sockets" in answer.text or "python_info" in answer.text
