"""Subscriptions as server-sent events through a real server: each byte of a stream, how it goes on, and what ends it."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from settings import Settings
from tests.clients import Client, Watcher

EVENTS = {"accept": "text/event-stream"}
GRAPHQL = {"accept": "application/graphql-response+json"}


def messages(text: str) -> list[dict]:
    """The `data` of each `next` event."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def told(text: str) -> list[str]:
    return [message["data"]["told"]["cursor"] for message in messages(text)]


@asynccontextmanager
async def listening(url: str, query: str, **headers: str):
    """The chunks of a stream, once it stands."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        client.stream("POST", "/graphql", json={"query": query}, headers=EVENTS | headers) as response,
    ):
        chunks = response.aiter_text()
        assert (response.status_code, await anext(chunks)) == (200, ":\n\n")
        yield chunks


async def until(condition, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_results_are_next_events_and_the_end_is_complete(ask):
    response = await ask("subscription { count(to: 2) }", headers=EVENTS)

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.text == (
        ':\n\nevent: next\ndata: {"data":{"count":1}}\n\nevent: next\ndata: {"data":{"count":2}}\n\nevent: complete\ndata:\n\n'
    )


async def test_the_id_of_an_event_is_the_cursor_of_its_message(ask):
    response = await ask("subscription { mine: told(to: 2) { cursor } }", headers=EVENTS)

    assert response.text.startswith(':\n\nevent: next\nid: 1\ndata: {"data":{"mine":{"cursor":"1"}}}\n\nevent: next\nid: 2\n')


async def test_a_field_called_cursor_cannot_break_out_of_its_line(ask):
    response = await ask("subscription { told(to: 1) { cursor: text } }", headers=EVENTS)

    assert response.text == ':\n\nevent: next\ndata: {"data":{"told":{"cursor":"one\\ntwo"}}}\n\nevent: complete\ndata:\n\n'


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("subscription { told { cursor } }", None),
        ("subscription A($lastEventId: Int) { told(to: $lastEventId) { ...F } } fragment F on Told { cursor }", {"lastEventId": 3}),
        ("subscription { told(after: null) { cursor } }", None),
        ("subscription($a: String) { told(after: $a) { cursor } }", None),
        ("subscription($a: String) { told(after: $a) { cursor } }", {"a": None}),
    ],
)
async def test_a_stream_goes_on_behind_the_last_event_heard(ask, query, variables):
    response = await ask(query, variables, headers=EVENTS | {"last-event-id": "1"})

    assert told(response.text) == ["2", "3"]


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ('subscription { told(after: "2") { cursor } }', None),
        ("subscription($a: String) { told(after: $a) { cursor } }", {"a": "2"}),
        ('subscription($a: String = "2") { told(after: $a) { cursor } }', None),
    ],
)
async def test_what_the_client_says_itself_counts_more(ask, query, variables):
    response = await ask(query, variables, headers=EVENTS | {"last-event-id": "1"})

    assert told(response.text) == ["3"]


async def test_a_subscription_that_cannot_go_on_begins_anew(ask):
    response = await ask("subscription { count(to: 1) }", headers=EVENTS | {"last-event-id": "1"})

    assert messages(response.text) == [{"data": {"count": 1}}]


@pytest.mark.parametrize("accept", ["text/event-stream, application/json;q=0.1", "application/graphql-response+json, text/event-stream"])
async def test_a_query_becomes_no_stream_while_anything_else_is_acceptable(ask, accept):
    response = await ask("{ hello }", headers={"accept": accept})

    assert response.headers["content-type"].startswith("application/")
    assert response.json() == {"data": {"hello": "Hello, world!"}}


async def test_a_query_is_one_event_where_nothing_else_is_acceptable(ask):
    response = await ask("{ hello }", headers=EVENTS)

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.text == 'event: next\ndata: {"data":{"hello":"Hello, world!"}}\n\nevent: complete\ndata:\n\n'


async def test_a_document_that_is_refused_is_an_event_that_says_so(ask):
    response = await ask("subscription { nothing }", headers=EVENTS)

    assert response.status_code == 200
    assert [error["extensions"]["code"] for error in messages(response.text)[0]["errors"]] == ["GRAPHQL_VALIDATION_FAILED"]
    assert response.text.endswith("\n\nevent: complete\ndata:\n\n")


@pytest.mark.parametrize(("name", "results", "code"), [("fails", 1, "INTERNAL"), ("hidden", 0, "NOT_FOUND")])
async def test_an_error_ends_a_stream_that_runs(ask, name, results, code):
    heard = messages((await ask(f"subscription {{ {name} }}", headers=EVENTS)).text)

    assert len(heard) == results + 1
    assert [error["extensions"]["code"] for error in heard[-1]["errors"]] == [code]


async def test_a_subscription_comes_by_get_too_and_a_mutation_never(client):
    headers = EVENTS | {"graphql-preflight": "1"}
    heard = await client.get("/graphql", params={"query": "subscription { count(to: 1) }"}, headers=headers)
    refused = await client.get("/graphql", params={"query": 'mutation { signUp(email: "x") }'}, headers=headers)

    assert messages(heard.text) == [{"data": {"count": 1}}]
    assert refused.status_code == 405


async def test_a_client_that_leaves_ends_its_subscription(server, toy):
    async with listening(server.url, "subscription { count(to: 1000, pause: 0.05) }") as chunks:
        await anext(chunks)
        assert "count" in toy.running

    await until(lambda: "count" not in toy.running and len(server.door.sockets) == 0)


async def test_silence_is_filled_with_comments(server, monkeypatch):
    from transport import event_stream

    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.1)
    async with listening(server.url, "subscription { count(to: 9, pause: 20) }") as chunks:
        heard = [await anext(chunks) for _ in range(3)]

    assert heard == ['event: next\ndata: {"data":{"count":1}}\n\n', ":\n\n", ":\n\n"]


async def test_a_drain_ends_streams_without_complete_and_takes_no_new_ones(toy):
    with toy.serving(Settings(rate_limits=False)) as running:
        async with listening(running.url, "subscription { count(to: 1000, pause: 20) }") as chunks:
            await anext(chunks)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(running.door.sockets.drain(0.1), running.loop))
            assert [chunk async for chunk in chunks] == []
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            late = await client.post("/graphql", json={"query": "subscription { count(to: 1) }"}, headers=EVENTS)

    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert "count" not in toy.running


async def test_a_server_with_streams_ends_in_time(toy):
    with toy.serving(Settings(rate_limits=False)) as running:
        async with listening(running.url, "subscription { count(to: 1000, pause: 20) }") as chunks:
            await anext(chunks)
            running.server.should_exit = True
            async with asyncio.timeout(15):
                assert [chunk async for chunk in chunks] == []


@asynccontextmanager
async def stalled(running):
    """A reader that takes the head of an endless stream and then nothing, until the server holds bytes back for it."""
    body = json.dumps({"query": "subscription { flood }"})
    head = f"POST /graphql HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1 << 10)
    writer.write((head + body).encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        await until(lambda: len(running.door.sockets) == 1)
        await asyncio.sleep(0.3)
        yield
    finally:
        writer.transport.abort()


async def test_a_reader_that_stalls_is_cut_off(server, monkeypatch):
    from transport import uvicorn_protocol

    monkeypatch.setattr(uvicorn_protocol, "STALLED_S", 1.5)
    async with stalled(server):
        await until(lambda: len(server.door.sockets) == 0)


async def test_a_server_ends_in_time_with_a_reader_that_stalls(toy):
    with toy.serving(Settings(rate_limits=False)) as running:
        async with stalled(running):
            running.server.should_exit = True
            await until(lambda: len(running.door.sockets) == 0, seconds=20)


@pytest.mark.parametrize("limits", [{"sockets_per_address": 1}, {"sockets_per_viewer": 1}, {"streams_per_window": 1}])
async def test_streams_count_as_sockets_do(toy, limits):
    with toy.serving(Settings(**limits)) as running:
        async with listening(running.url, "subscription { count(to: 1000, pause: 20) }", authorization="Bearer ann"):
            async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
                headers = GRAPHQL | {"authorization": "Bearer ann"}
                headers["accept"] += ", text/event-stream"
                second = await client.post("/graphql", json={"query": "subscription { count(to: 1) }"}, headers=headers)
            assert len(running.door.sockets) == 1

    assert second.status_code == 429
    assert int(second.headers["retry-after"]) >= 1
    assert [error["extensions"]["code"] for error in second.json()["errors"]] == ["RATE_LIMITED"]


async def test_a_viewer_who_is_sent_away_or_whose_token_expires_hears_no_more(server, toy):
    async with listening(server.url, "subscription { count(to: 1000, pause: 20) }", authorization="Bearer gone") as chunks:
        await anext(chunks)
        closing = asyncio.run_coroutine_threadsafe(toy.send_away(server.door, "viewer:gone"), server.loop)
        assert await asyncio.wrap_future(closing) == 1
        assert [chunk async for chunk in chunks] == []
    async with listening(server.url, "subscription { count(to: 1000, pause: 20) }", authorization="Bearer brief") as chunks:
        async with asyncio.timeout(15):
            assert [messages(chunk) async for chunk in chunks] == [[{"data": {"count": 1}}]]


# ── the product's own streams ──
WATCH = "subscription ($id: Int!, $after: Cursor) { events(productId: $id, after: $after) { cursor event { name } } }"


async def test_the_npm_client_hears_a_products_events_and_a_cut_stream_goes_on(migrated_sqlite, start_server):
    server = start_server(migrated_sqlite)
    async with Client(server.url) as client:
        client.token = (await client.do("signUp", "token", email="ann@example.com", password="a stranger listens", name="Ann"))["token"]
        slug = (await client.do("createOrganization", "organization { slug }", name="Acme"))["organization"]["slug"]
        made = await client.do("createProduct", "product { productId }", organization=slug, name="Lamp", platform="PHOTON")
        product_id = made["product"]["productId"]
        before = (await client.do("publishEvent", "event { cursor }", productId=product_id, name="before"))["event"]["cursor"]
        async with Watcher(server.url, client.token, WATCH, {"id": product_id, "after": before}, events=True) as heard:
            for name in ("a", "b", "c"):
                await client.do("publishEvent", "event { name }", productId=product_id, name=name)
            await heard.until(lambda: len(heard.messages) == 3)

        first = heard.messages[0]["data"]["events"]["cursor"]
        resumed = await _first_events(client, product_id, first, 2)

    assert [message["data"]["events"]["event"]["name"] for message in heard.messages] == ["a", "b", "c"]
    assert resumed == ["b", "c"]


async def _first_events(client: Client, product_id: int, last_event_id: str, count: int) -> list[str]:
    headers = EVENTS | {"authorization": f"Bearer {client.token}", "last-event-id": last_event_id}
    names: list[str] = []
    body = {"query": WATCH, "variables": {"id": product_id}}
    async with client.http.stream("POST", f"{client.url}/graphql", json=body, headers=headers) as response:
        async for chunk in response.aiter_text():
            names += [message["data"]["events"]["event"]["name"] for message in messages(chunk)]
            if len(names) >= count:
                break
    return names
