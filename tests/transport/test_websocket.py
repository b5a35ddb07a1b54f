"""graphql-transport-ws through a real server: what each frame gets, and with which code a socket ends."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

PROTOCOL = "graphql-transport-ws"


class Peer:
    """A client that sends what it is told and hears JSON."""

    def __init__(self, socket) -> None:
        self.socket = socket

    async def send(self, message: object) -> None:
        await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def hear(self) -> dict:
        return json.loads(await asyncio.wait_for(self.socket.recv(), 60))

    async def init(self, payload: object = None) -> dict:
        await self.send({"type": "connection_init", "payload": payload})
        return await self.hear()

    async def subscribe(self, query: str, id: str = "1", **payload: object) -> None:
        await self.send({"type": "subscribe", "id": id, "payload": {"query": query, **payload}})

    async def end(self) -> tuple[int, str]:
        """The close code the server ends with, whatever it says before."""
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(60):
                while True:
                    await self.socket.recv()
        return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.fixture
def open_peer(server):
    @asynccontextmanager
    async def open_peer(init: bool = True, payload: object = None, **options: object):
        options.setdefault("subprotocols", [PROTOCOL])
        async with connect(options.pop("url", server.ws), compression=None, max_size=None, **options) as socket:
            peer = Peer(socket)
            if init:
                assert (await peer.init(payload))["type"] == "connection_ack"
            yield peer

    return open_peer


async def test_the_acknowledgement_tells_time_size_and_ping_interval(open_peer):
    async with open_peer(init=False) as peer:
        ack = await peer.init()

    assert ack["type"] == "connection_ack"
    assert ack["payload"]["maxMessageBytes"] == 1 << 20
    assert ack["payload"]["pingIntervalSeconds"] == 10
    assert ack["payload"]["serverTime"].endswith("Z")


async def test_a_subscription_gives_its_results_and_completes(open_peer):
    async with open_peer() as peer:
        await peer.subscribe("subscription($to: Int!) { count(to: $to) }", variables={"to": 2})
        heard = [await peer.hear() for _ in range(3)]

    assert heard == [
        {"id": "1", "type": "next", "payload": {"data": {"count": 1}}},
        {"id": "1", "type": "next", "payload": {"data": {"count": 2}}},
        {"id": "1", "type": "complete"},
    ]


async def test_queries_and_mutations_run_over_the_socket(open_peer):
    async with open_peer() as peer:
        await peer.subscribe("{ hello missing }")
        query = [await peer.hear(), await peer.hear()]
        await peer.subscribe('mutation { signUp(email: "x") }', id="2")
        mutation = [await peer.hear(), await peer.hear()]

    assert query[0]["payload"]["data"] == {"hello": "Hello, world!", "missing": None}
    assert query[0]["payload"]["errors"][0]["extensions"] == {"code": "NOT_FOUND"}
    assert mutation == [{"id": "2", "type": "next", "payload": {"data": {"signUp": "x"}}}, {"id": "2", "type": "complete"}]


async def test_each_operation_has_a_fresh_context(open_peer):
    async with open_peer() as peer:
        await peer.subscribe('{ seen(mark: "a") }')
        first = [await peer.hear(), await peer.hear()]
        await peer.subscribe('{ seen(mark: "b") }')
        second = await peer.hear()

    assert (first[0]["payload"]["data"], second["payload"]["data"]) == ({"seen": ["a"]}, {"seen": ["b"]})


@pytest.mark.parametrize("member", ["authorization", "Authorization"])
async def test_the_token_comes_in_connection_init(open_peer, member):
    async with open_peer(payload={member: "Bearer ann"}) as peer:
        await peer.subscribe("{ viewer }")
        answer = await peer.hear()

    assert answer["payload"]["data"] == {"viewer": "viewer:ann"}


@pytest.mark.parametrize(("token", "code"), [("bad", 4401), ("old", 4403)])
async def test_a_bad_token_ends_the_socket_and_an_expired_one_asks_for_a_fresh_one(open_peer, token, code):
    async with open_peer(init=False) as peer:
        await peer.send({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}})

        assert (await peer.end())[0] == code


async def test_a_token_that_expires_closes_its_socket_with_4403(open_peer):
    async with open_peer(payload={"authorization": "Bearer brief"}) as peer:
        started = time.monotonic()

        assert (await peer.end())[0] == 4403
        assert time.monotonic() - started < 40


MALFORMED = [
    "",
    "null",
    "[]",
    "1",
    '"x"',
    "{",
    "{}",
    '{"type":1}',
    '{"type":null}',
    '{"type":["subscribe"]}',
    '{"type":{}}',
    '{"type":"next","id":"1"}',
    '{"type":"start","id":"1"}',
    '{"type":"subscribe"}',
    '{"type":"subscribe","id":[]}',
    '{"type":"subscribe","id":{}, "payload":{"query":"{ hello }"}}',
    '{"type":"subscribe","id":1,"payload":{"query":"{ hello }"}}',
    '{"type":"subscribe","id":"","payload":{"query":"{ hello }"}}',
    '{"type":"subscribe","id":"1"}',
    '{"type":"subscribe","id":"1","payload":null}',
    '{"type":"subscribe","id":"1","payload":[]}',
    '{"type":"subscribe","id":"1","payload":"x"}',
    '{"type":"subscribe","id":"1","payload":{}}',
    '{"type":"subscribe","id":"1","payload":{"query":1}}',
    '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","variables":[]}}',
    '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","variables":"x"}}',
    '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","operationName":1}}',
    '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","extensions":1}}',
    '{"type":"complete"}',
    '{"type":"complete","id":[]}',
    '{"type":"ping","payload":1}',
    '{"type":"pong","payload":[]}',
    '{"type":"subscribe","id":"\\ud800","payload":{"query":"{ hello }"}}',
    "[" * 50_000,
    '{"type":"ping","payload":{"x":' + "9" * 5000 + "}}",
    b'{"type":"ping"}',
]


@pytest.mark.parametrize("frame", MALFORMED)
async def test_a_malformed_message_is_4400_and_one_line_in_the_log(open_peer, caplog, frame):
    async with open_peer() as peer:
        with caplog.at_level(logging.INFO):
            await peer.send(frame)
            code, reason = await peer.end()

    assert code == 4400 and reason
    ours = [record for record in caplog.records if record.name.startswith(("transport", "strawberry", "uvicorn", "asyncio"))]
    assert len(ours) <= 1 and not any(record.exc_info for record in ours)


@pytest.mark.parametrize("payload", ["x", [], 1, True, {"authorization": 1}, {"authorization": ["Bearer x"]}])
async def test_a_malformed_init_is_4400(open_peer, payload):
    async with open_peer(init=False) as peer:
        await peer.send({"type": "connection_init", "payload": payload})

        assert (await peer.end())[0] == 4400


@pytest.mark.parametrize("message", [{"type": "connection_init"}, {"type": "connection_init", "payload": None}])
async def test_an_init_without_a_payload_is_legal(open_peer, message):
    async with open_peer(init=False) as peer:
        await peer.send(message)

        assert (await peer.hear())["type"] == "connection_ack"


async def test_a_second_init_is_4429_and_an_id_in_use_4409_and_an_early_subscribe_4401(open_peer):
    async with open_peer() as peer:
        await peer.send({"type": "connection_init"})
        assert (await peer.end())[0] == 4429
    async with open_peer() as peer:
        await peer.subscribe("subscription { count(to: 9, pause: 9) }")
        await peer.subscribe("subscription { count(to: 9, pause: 9) }")
        assert (await peer.end())[0] == 4409
    async with open_peer(init=False) as peer:
        await peer.subscribe("{ hello }")
        assert (await peer.end())[0] == 4401


async def test_a_message_is_at_most_64_kib_before_the_acknowledgement_and_1_mib_after(open_peer):
    async with open_peer(init=False) as peer:
        await peer.send({"type": "ping", "payload": {"x": "y" * 65536}})
        assert (await peer.end())[0] == 1009
    async with open_peer() as peer:
        await peer.send({"type": "ping", "payload": {"x": "y" * 1_000_000}})
        assert len((await peer.hear())["payload"]["x"]) == 1_000_000
        await peer.send({"type": "ping", "payload": {"x": "y" * (1 << 20)}})
        assert (await peer.end())[0] == 1009


async def test_a_pings_payload_comes_back_in_the_pong(open_peer):
    async with open_peer(init=False) as peer:
        await peer.send({"type": "ping", "payload": {"n": 1}})
        await peer.send({"type": "ping"})

        assert [await peer.hear(), await peer.hear()] == [{"type": "pong", "payload": {"n": 1}}, {"type": "pong"}]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": ""}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A { hello }", "operationName": "B"}, "OPERATION_RESOLUTION_FAILURE"),
        ({"query": "query($n: Int!) { number(value: $n) }"}, "BAD_USER_INPUT"),
        ({"query": "{ items(first: 101) { name } }"}, "BAD_REQUEST"),
        ({"query": "{" + " ".join(f"a{n}: hello" for n in range(101)) + "}"}, "QUERY_TOO_COMPLEX"),
        ({"query": "subscription { hidden }"}, "NOT_FOUND"),
    ],
)
async def test_an_error_ends_its_operation_and_the_socket_lives_on(open_peer, payload, code):
    async with open_peer() as peer:
        await peer.send({"type": "subscribe", "id": "wrong", "payload": payload})
        wrong = await peer.hear()
        await peer.subscribe("{ hello }", id="right")
        right = await peer.hear()

    assert (wrong["type"], wrong["id"]) == ("error", "wrong")
    assert wrong["payload"][0]["extensions"]["code"] == code
    assert right["payload"]["data"] == {"hello": "Hello, world!"}


async def test_an_operation_past_its_deadline_is_stopped(open_peer, hasty):
    async with open_peer(url=hasty.ws) as peer:
        await peer.subscribe("{ nap(seconds: 30) }")
        late = await peer.hear()

    assert (late["type"], late["payload"][0]["extensions"]["code"]) == ("error", "TIMEOUT")


async def test_a_stream_that_breaks_is_masked_and_ends(open_peer):
    async with open_peer() as peer:
        await peer.subscribe("subscription { fails }")
        heard = [await peer.hear() for _ in range(2)]

    assert [message["type"] for message in heard] == ["next", "error"]
    assert heard[1]["payload"][0]["extensions"]["code"] == "INTERNAL"
    assert "secret" not in json.dumps(heard)


async def test_the_101st_operation_is_refused_and_the_others_go_on(open_peer):
    async with open_peer() as peer:
        for n in range(100):
            await peer.subscribe("subscription { count(to: 2, pause: 60) }", id=str(n))
        for _ in range(100):
            assert (await peer.hear())["type"] == "next"
        await peer.subscribe("{ hello }", id="over")
        refused = await peer.hear()
        await peer.send({"type": "complete", "id": "0"})
        await peer.subscribe("{ hello }", id="again")
        again = await peer.hear()

    assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "RATE_LIMITED")
    assert again["payload"]["data"] == {"hello": "Hello, world!"}


async def test_completing_an_operation_stops_it(open_peer, toy):
    async with open_peer() as peer:
        await peer.subscribe("subscription { count(to: 9, pause: 60) }")
        await peer.hear()
        assert "count" in toy.running

        await peer.send({"type": "complete", "id": "1"})

        await _until(lambda: "count" not in toy.running)


async def test_a_client_that_leaves_stops_its_operations(open_peer, toy, server):
    async with open_peer() as peer:
        await peer.subscribe("subscription { count(to: 9, pause: 60) }")
        await peer.hear()

    await _until(lambda: "count" not in toy.running)
    await _until(lambda: len(server.door.sockets) == 0)


@pytest.mark.parametrize("subprotocols", [["graphql-ws"], None, ["x"]])
async def test_other_subprotocols_are_4406(open_peer, subprotocols):
    async with open_peer(init=False, subprotocols=subprotocols) as peer:
        assert (await peer.end())[0] == 4406


async def test_a_foreign_origin_is_403_and_our_own_and_none_are_let_in(open_peer, server):
    with pytest.raises(InvalidStatus) as refused:
        async with open_peer(origin="https://evil.example"):
            pass
    async with open_peer(origin=server.url):
        pass

    assert refused.value.response.status_code == 403


async def test_nobody_who_says_nothing_stays_longer_than_10_s(open_peer):
    started = time.monotonic()
    async with open_peer(init=False) as peer:
        assert (await peer.end())[0] == 4408
        assert 9.5 < time.monotonic() - started < 40


async def test_a_viewers_sockets_are_closed_and_no_one_elses(open_peer, server, toy):
    async with open_peer(payload={"authorization": "Bearer ann"}) as ann, open_peer(payload={"authorization": "Bearer bob"}) as bob:
        closing = toy.send_away(server.door, "viewer:ann", 4401)
        count = asyncio.run_coroutine_threadsafe(closing, server.loop)

        assert (await ann.end())[0] == 4401
        await bob.subscribe("{ hello }")
        assert (await bob.hear())["type"] == "next"
        assert count.result(30) == 1


async def test_draining_sends_everybody_away_with_1012_and_lets_nobody_in(toy):
    from settings import Settings

    with toy.serving(Settings(rate_limits=False)) as running:
        peers = [Peer(await connect(running.ws, subprotocols=[PROTOCOL], compression=None)) for _ in range(5)]
        for peer in peers:
            await peer.init()
        draining = asyncio.run_coroutine_threadsafe(running.door.sockets.drain(2.0), running.loop)
        codes = [(await peer.end())[0] for peer in peers]
        await asyncio.wrap_future(draining)
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.ws, subprotocols=[PROTOCOL])

    assert codes == [1012] * 5
    assert refused.value.response.status_code == 503


async def test_sockets_beyond_the_rate_of_an_address_are_429(toy):
    from settings import Settings

    with toy.serving(Settings(streams_per_window=2)) as running:
        peers = [await connect(running.ws, subprotocols=[PROTOCOL]) for _ in range(2)]
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.ws, subprotocols=[PROTOCOL])
        for peer in peers:
            await peer.close()

    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["retry-after"]) > 100


async def test_sockets_open_beyond_the_caps_of_a_viewer_and_an_address_are_refused(toy):
    from settings import Settings

    ann = {"authorization": "Bearer ann"}
    with toy.serving(Settings(sockets_per_viewer=1, sockets_per_address=2)) as running:
        first, second = [Peer(await connect(running.ws, subprotocols=[PROTOCOL])) for _ in range(2)]
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.ws, subprotocols=[PROTOCOL])
        assert (await first.init(ann))["type"] == "connection_ack"
        await second.send({"type": "connection_init", "payload": ann})
        code = (await second.end())[0]
        third = Peer(await connect(running.ws, subprotocols=[PROTOCOL]))
        await third.init()
        for peer in (first, third):
            await peer.socket.close()

    assert refused.value.response.status_code == 429
    assert code == 1013


async def _until(condition, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
