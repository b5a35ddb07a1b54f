"""Operations asked for by a hash, over HTTP and the socket: what is found, what is learned, and what is not let in."""

import hashlib
import json

import httpx
import pytest
from websockets.asyncio.client import connect

from settings import Settings, SettingsRefused, from_environment
from transport import persisted
from transport.documents import DocumentRefused
from transport.gate import Asked
from transport.persisted import Persisted, read_trusted

GRAPHQL = {"accept": "application/graphql-response+json"}
HELLO = '{ hello(name: "hash") }'
ANSWER = {"data": {"hello": "Hello, hash!"}}


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def named(name: str) -> dict:
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": name}}}


def errors(answer: dict) -> list[tuple[str, str]]:
    return [(error["message"], error["extensions"]["code"]) for error in answer["errors"]]


@pytest.fixture
def trusting(toy, tmp_path):
    """Serve with one trusted document, under a name that is not its SHA-256."""
    path = tmp_path / "trusted.json"
    path.write_text(json.dumps({"sha256:of-the-build": HELLO}))

    def trusting(**settings: object):
        return toy.serving(Settings(rate_limits=False, trusted_documents=path, **settings))

    return trusting


async def post(url: str, **body: object) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        return await client.post("/graphql", json=body)


async def over_the_socket(url: str, **payload: object) -> dict:
    """The first message an operation gets."""
    async with connect(url, subprotocols=["graphql-transport-ws"]) as socket:
        await socket.send('{"type":"connection_init"}')
        await socket.recv()
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        return json.loads(await socket.recv())


# ── automatic persisted queries ──
async def test_an_unknown_hash_is_told_in_apollos_words_and_its_text_is_then_learned(client):
    text = HELLO + " # learned"
    unknown = await client.post("/graphql", json=named(hash_of(text)))
    taught = await client.post("/graphql", json={"query": text, **named(hash_of(text))})
    known = await client.post("/graphql", json=named(hash_of(text)))

    assert unknown.status_code == 200
    assert errors(unknown.json()) == [("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")]
    assert "data" not in unknown.json()
    assert taught.json() == known.json() == ANSWER


async def test_a_learned_document_is_found_by_get_and_over_the_socket(client, server):
    text = HELLO + " # by get"
    await over_the_socket(server.ws, query=text, **named(hash_of(text)))

    extensions = json.dumps(named(hash_of(text))["extensions"])
    by_get = await client.get("/graphql", params={"extensions": extensions}, headers={"graphql-preflight": "1"})
    message = await over_the_socket(server.ws, **named(hash_of(text)))

    assert by_get.json() == ANSWER
    assert message == {"id": "1", "type": "next", "payload": ANSWER}


async def test_the_newer_media_type_has_no_success_without_data(client):
    response = await client.post("/graphql", json=named("0" * 64), headers=GRAPHQL)

    assert response.status_code == 400
    assert errors(response.json()) == [("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")]


async def test_an_unknown_hash_over_the_socket_is_an_error_of_that_operation(server):
    message = await over_the_socket(server.ws, **named("0" * 64))

    assert (message["id"], message["type"]) == ("1", "error")
    assert errors({"errors": message["payload"]}) == [("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")]


async def test_a_hash_of_another_text_is_refused_and_teaches_nothing(client):
    name = hash_of("{ hello } # never sent")
    refused = await client.post("/graphql", json={"query": HELLO, **named(name)})
    after = await client.post("/graphql", json=named(name))

    assert errors(refused.json()) == [("provided sha does not match query", "BAD_REQUEST")]
    assert errors(after.json()) == [("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")]


async def test_a_document_that_is_not_valid_is_not_learned(client):
    name = hash_of("{ nothing }")
    await client.post("/graphql", json={"query": "{ nothing }", **named(name)})
    after = await client.post("/graphql", json=named(name))

    assert errors(after.json()) == [("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")]


@pytest.mark.parametrize(
    "body",
    [
        {"extensions": {"persistedQuery": {"version": 2, "sha256Hash": "0" * 64}}},
        {"extensions": {"persistedQuery": {"version": 1}}},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": 1}}},
        {"extensions": {"persistedQuery": "x"}},
        {"documentId": 1},
        {"documentId": ""},
        {"query": " ", **named("0" * 64)},
        {"query": 1, **named("0" * 64)},
    ],
)
async def test_a_malformed_name_is_400(client, body):
    response = await client.post("/graphql", json=body)

    assert response.status_code == 400


def test_what_is_learned_is_bounded_and_the_least_recently_used_goes_first(monkeypatch):
    monkeypatch.setattr(persisted, "REMEMBERED", 2)
    learned = Persisted(Settings())
    first, second, third = (Asked(f"{{ {letter} }}", document_id=hash_of(f"{{ {letter} }}")) for letter in "abc")
    learned.learn(first)
    learned.learn(second)
    assert learned.found(Asked("", document_id=first.document_id)).query == "{ a }"
    learned.learn(third)

    assert learned.found(Asked("", document_id=first.document_id)).query == "{ a }"
    with pytest.raises(DocumentRefused):
        learned.found(Asked("", document_id=second.document_id))


def test_what_is_learned_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(persisted, "REMEMBERED_BYTES", 10)
    learned = Persisted(Settings())
    for text in ("{ aaaa }", "{ bbbb }"):
        learned.learn(Asked(text, document_id=hash_of(text)))

    assert learned.found(Asked("", document_id=hash_of("{ bbbb }"))).query == "{ bbbb }"
    with pytest.raises(DocumentRefused):
        learned.found(Asked("", document_id=hash_of("{ aaaa }")))


# ── trusted documents ──
@pytest.mark.parametrize("body", [named("of-the-build"), {"documentId": "sha256:of-the-build"}, {"query": HELLO, **named("of-the-build")}])
async def test_a_trusted_document_is_found_by_the_name_it_was_given(trusting, body):
    with trusting() as running:
        assert (await post(running.url, **body)).json() == ANSWER
        assert (await over_the_socket(running.ws, **body))["payload"] == ANSWER


async def test_beside_trusted_documents_others_run_unless_they_are_the_only_ones(trusting):
    with trusting() as running:
        assert (await post(running.url, query="{ hello }")).json() == {"data": {"hello": "Hello, world!"}}


async def test_where_only_trusted_documents_are_accepted_no_other_runs(trusting):
    other = '{ nap(seconds: 0) hello(name: "other") }'
    with trusting(trusted_documents_only=True) as running:
        trusted = [await post(running.url, documentId="of-the-build"), await post(running.url, query=HELLO)]
        plain = await post(running.url, query=other)
        taught = await post(running.url, query=other, **named(hash_of(other)))
        unknown = await post(running.url, **named(hash_of(other)))
        socket = await over_the_socket(running.ws, query=other)

    assert [answer.json() for answer in trusted] == [ANSWER, ANSWER]
    for answer in (plain.json(), taught.json(), {"errors": socket["payload"]}):
        assert [code for _, code in errors(answer)] == ["FORBIDDEN"]
        assert "data" not in answer
    assert errors(unknown.json()) == [("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")]


async def test_a_trusted_subscription_still_goes_on_behind_its_last_event(toy, tmp_path):
    path = tmp_path / "trusted.json"
    path.write_text(json.dumps({"told": "subscription { told { cursor } }"}))
    headers = {"accept": "text/event-stream", "last-event-id": "2"}
    with toy.serving(Settings(rate_limits=False, trusted_documents=path, trusted_documents_only=True)) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            response = await client.post("/graphql", json={"documentId": "told"}, headers=headers)

    assert response.text == ':\n\nevent: next\nid: 3\ndata: {"data":{"told":{"cursor":"3"}}}\n\nevent: complete\ndata:\n\n'


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b'{"a": " "}', b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_list_of_documents_keeps_the_server_from_starting(tmp_path, content):
    path = tmp_path / "trusted.json"
    path.write_bytes(content)

    with pytest.raises(SettingsRefused, match="TRUSTED_DOCUMENTS"):
        read_trusted(path)


def test_trusted_documents_are_settings_of_the_environment(tmp_path):
    environment = {"SECRET_KEY": "s" * 32, "TRUSTED_DOCUMENTS_ONLY": "on"}
    with pytest.raises(SettingsRefused, match="needs TRUSTED_DOCUMENTS"):
        from_environment(environment)
    with pytest.raises(SettingsRefused, match="cannot be read"):
        read_trusted(tmp_path / "missing.json")

    settings = from_environment(environment | {"TRUSTED_DOCUMENTS": str(tmp_path / "t.json")})
    assert (settings.trusted_documents, settings.trusted_documents_only) == (tmp_path / "t.json", True)
