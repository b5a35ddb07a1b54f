"""GraphQL over HTTP through a real server: what is answered, with which status, and what is refused before anything runs."""

import asyncio
import json
import logging
import socket

import httpx
import pytest

GRAPHQL = {"accept": "application/graphql-response+json"}
PREFLIGHT = {"graphql-preflight": "1"}


def codes(response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json()["errors"]]


async def test_a_query_is_answered_as_plain_json_unless_more_is_asked_for(ask):
    response = await ask("{ hello }")

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.json() == {"data": {"hello": "Hello, world!"}}


@pytest.mark.parametrize("accept", ["text/html", "multipart/mixed", "application/json;q=0", "text/event-stream;q=0"])
async def test_nothing_acceptable_is_406(ask, accept):
    response = await ask("{ hello }", headers={"accept": accept})

    assert response.status_code == 406
    assert codes(response) == ["BAD_REQUEST"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"x"',
        b"1",
        b"{",
        b"[]",
        b'[{"query":"{ hello }"}]',
        b"\xff\xfe",
        b'{"query":"{ hello }","variables":{"x":"\\ud800"}}',
        b'{"query":"{ hello }","variables":{"x":NaN}}',
        b'{"query":"{ hello }","variables":{"x":1e999}}',
        b'{"query":"{ hello }","variables":{"x":' + b"9" * 5000 + b"}}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"query":"{ hello }","variables":{"x":' + b"[" * 70 + b"]" * 70 + b"}}",
        b'{"query":1}',
        b'{"query":" "}',
        b'{"query":"{ hello }","variables":[]}',
        b'{"query":"{ hello }","operationName":1}',
        b'{"query":"{ hello }","extensions":"x"}',
        b"{}",
    ],
)
async def test_a_body_that_is_no_operation_is_400(client, body):
    response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})

    assert response.status_code == 400
    assert codes(response) == ["BAD_REQUEST"]


async def test_a_body_above_the_cap_is_413_before_it_is_read(server):
    head = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)

    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)

    assert answer.startswith(b"HTTP/1.1 413")
    writer.close()


async def test_a_chunked_body_above_the_cap_is_413(client):
    async def endless():
        for _ in range(40):
            yield b" " * 65536

    response = await client.post("/graphql", content=endless(), headers={"content-type": "application/json"})

    assert response.status_code == 413


async def test_what_cannot_be_parsed_is_400_without_data_or_200_for_older_clients(ask):
    new, old = await ask("{", headers=GRAPHQL), await ask("{")

    assert (new.status_code, old.status_code) == (400, 200)
    assert codes(new) == codes(old) == ["GRAPHQL_PARSE_FAILED"]
    assert "data" not in new.json() and "data" not in old.json()


async def test_at_most_five_errors_of_validation_are_returned(ask):
    response = await ask("{ a b c d e f g }", headers=GRAPHQL)

    assert response.status_code == 400
    assert codes(response) == ["GRAPHQL_VALIDATION_FAILED"] * 5


@pytest.mark.parametrize("variables", [{"value": "x"}, {}, {"value": None}, {"value": 2**31}])
async def test_a_variable_that_does_not_fit_is_bad_user_input(ask, variables):
    response = await ask("query($value: Int!) { number(value: $value) }", variables, headers=GRAPHQL)

    assert response.status_code == 400
    assert codes(response) == ["BAD_USER_INPUT"]
    assert "data" not in response.json()


@pytest.mark.parametrize(
    ("query", "name"), [("query A { hello } query B { hello }", None), ("query A { hello }", "B"), ("fragment A on Query { hello }", None)]
)
async def test_an_operation_that_cannot_be_told_is_named(ask, query, name):
    response = await ask(query, operationName=name, headers=GRAPHQL)

    assert response.status_code == 400
    assert codes(response) == ["OPERATION_RESOLUTION_FAILURE"]


async def test_a_literal_of_5000_digits_is_refused_not_crashed_on(ask):
    response = await ask("{ number(value: " + "9" * 5000 + ") }")

    assert codes(response) == ["GRAPHQL_VALIDATION_FAILED"]


async def test_a_mutation_by_get_is_405_with_allow(client):
    response = await client.get("/graphql", params={"query": 'mutation { signUp(email: "x") }'}, headers=PREFLIGHT)

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


async def test_a_query_by_get_is_answered(client):
    params = {"query": "query($n: String!) { hello(name: $n) }", "variables": '{"n":"you"}'}
    response = await client.get("/graphql", params=params, headers=PREFLIGHT)

    assert response.json() == {"data": {"hello": "Hello, you!"}}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_other_methods_are_405(client, method):
    response = await client.request(method, "/graphql")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", None])
async def test_what_another_sites_page_could_send_unasked_is_refused(client, content_type):
    headers = {"content-type": content_type} if content_type else {}
    response = await client.post("/graphql", content=b'{"query":"{ hello }"}', headers=headers)

    assert response.status_code == 400
    for name in ("GraphQL-Preflight", "Apollo-Require-Preflight", "X-Requested-With"):
        assert name in response.json()["errors"][0]["message"]


async def test_a_get_without_a_preflight_header_is_refused(client):
    response = await client.get("/graphql", params={"query": "{ hello }"})

    assert response.status_code == 400


@pytest.mark.parametrize("content_type", ["application/graphql", "application/json; charset=utf-16", "text/plain"])
async def test_another_content_type_is_415(client, content_type):
    response = await client.post("/graphql", content=b'{"query":"{ hello }"}', headers={"content-type": content_type} | PREFLIGHT)

    assert response.status_code == 415


async def test_a_subscription_posted_as_json_is_refused_with_the_way_to_go(ask, toy):
    response = await ask("subscription { count(to: 3) }")

    assert response.status_code == 400
    assert "graphql-transport-ws" in response.json()["errors"][0]["message"]
    assert "count" not in toy.running


async def test_a_callers_error_carries_its_code_beside_the_data(ask):
    response = await ask("{ hello missing slowDown }", headers=GRAPHQL)

    body = response.json()
    assert response.status_code == 200
    assert body["data"] == {"hello": "Hello, world!", "missing": None, "slowDown": None}
    assert [error["path"] for error in body["errors"]] == [["missing"], ["slowDown"]]
    assert body["errors"][0]["extensions"] == {"code": "NOT_FOUND"}
    assert body["errors"][1]["extensions"] == {"code": "RATE_LIMITED", "retryAfter": 7}


async def test_anything_else_is_internal_with_an_id_and_one_trace(ask, caplog):
    with caplog.at_level(logging.INFO):
        response = await ask("{ broken }")

    error = response.json()["errors"][0]
    assert error["extensions"]["code"] == "INTERNAL"
    assert "secret" not in response.text and "RuntimeError" not in response.text
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == 1
    assert error["extensions"]["requestId"] in traces[0].getMessage()


async def test_a_stored_value_is_not_quoted_by_graphql_cores_own_message(ask):
    response = await ask("{ leaking }")

    assert codes(response) == ["INTERNAL"]
    assert "secret" not in response.text


async def test_a_door_that_breaks_before_the_operation_is_500_and_internal(ask):
    response = await ask("{ hello }", headers={"authorization": "Bearer breaks"})

    assert response.status_code == 500
    assert codes(response) == ["INTERNAL"]
    assert "secret" not in response.text


async def test_a_bad_token_is_unauthenticated(ask):
    old = await ask("{ hello }", headers={"authorization": "Bearer bad"})
    new = await ask("{ hello }", headers={"authorization": "Bearer bad"} | GRAPHQL)

    assert (old.status_code, new.status_code) == (200, 401)
    assert codes(old) == codes(new) == ["UNAUTHENTICATED"]


async def test_an_operation_past_its_deadline_is_stopped(hasty, toy):
    async with httpx.AsyncClient(base_url=hasty.url, timeout=60) as client:
        response = await client.post("/graphql", json={"query": '{ nap(seconds: 30, name: "late") }'})

    assert response.status_code == 503
    assert codes(response) == ["TIMEOUT"]
    assert "late" not in toy.running


async def test_a_client_that_leaves_stops_its_operation(toy):
    from settings import Settings

    body = json.dumps({"query": '{ nap(seconds: 100, name: "left") }'}).encode()
    head = f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with toy.serving(Settings(rate_limits=False, request_timeout_s=100)) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(head.encode() + body)
        await _until(lambda: "left" in toy.running)

        writer.close()

        await _until(lambda: "left" not in toy.running)


async def test_the_operations_cost_reaches_its_context(ask):
    response = await ask("{ cost items(first: 10) { name } }")

    assert response.json()["data"]["cost"] == 1 + 1 + 10


async def test_names_are_suggested_outside_production_only(ask, toy, server):
    from errors import Unauthenticated
    from settings import Settings
    from transport.documents import DocumentRefused
    from transport.masking import Masking

    door = toy.door(Settings(production=True))
    with pytest.raises(DocumentRefused) as refused:
        await door.documents.prepare("{ helo }", None, None, signed_in=True)
    with pytest.raises(Unauthenticated):
        await door.documents.prepare("{ __schema { types { name } } }", None, None, signed_in=False)

    shown = Masking(production=True).refusal(refused.value)
    assert "Did you mean" not in shown[0]["message"]
    assert "Did you mean" in (await ask("{ helo }")).json()["errors"][0]["message"]


async def test_requests_beyond_the_rate_are_429_with_the_time_to_wait(toy):
    from settings import Settings

    with toy.serving(Settings(requests_per_window=3, rate_window_s=60)) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            answers = [await client.post("/graphql", json={"query": "{ hello }"}) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 < int(answers[3].headers["retry-after"]) <= 20
    assert codes(answers[3]) == ["RATE_LIMITED"]


async def test_an_operation_is_paid_for_by_its_price_and_refused_when_its_caller_has_less_left(toy):
    from settings import Settings

    with toy.serving(Settings(cost_per_window=5, rate_window_s=50)) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            dear, cheap = {"query": "{ a: hello b: hello c: hello }"}, {"query": "{ hello }"}
            answers = [await client.post("/graphql", json=each) for each in (dear, dear, cheap, cheap)]

    assert [answer.status_code for answer in answers] == [200, 429, 200, 200]
    assert [answer.headers.get("ratelimit-remaining") for answer in answers] == ["2", None, "1", "0"]
    assert answers[0].headers["ratelimit-limit"] == "5"
    assert 1 < int(answers[1].headers["retry-after"]) <= 10
    assert codes(answers[1]) == ["RATE_LIMITED"]


async def test_each_viewer_has_a_budget_of_their_own_at_one_address(toy):
    from settings import Settings

    with toy.serving(Settings(cost_per_window=2, rate_window_s=50)) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            told = [{"authorization": "Bearer ann"}, {"authorization": "Bearer bob"}, {}]
            answers = [await client.post("/graphql", json={"query": "{ a: hello b: hello }"}, headers=each) for each in told * 2]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429, 429]


async def _until(condition, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_sockets_of_a_server_are_closed_with_it(toy):
    from settings import Settings

    with toy.serving(Settings()) as running:
        port = running.port

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
