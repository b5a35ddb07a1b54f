"""As what an answer goes out, for the Accept headers that clients really send."""

import pytest
from starlette.datastructures import Headers

from transport.gate import EVENT_STREAM, GRAPHQL_RESPONSE, JSON, Refusal
from transport.negotiating import Accepted, negotiate

APOLLO = "application/graphql-response+json,application/json;q=0.9"


@pytest.mark.parametrize(
    ("accept", "single", "streams"),
    [
        ("*/*", JSON, False),  # fetch, and with it Relay's own guide; Apollo Client 3; curl
        ("application/*", JSON, False),
        (APOLLO, GRAPHQL_RESPONSE, False),  # Apollo Client 4
        (f"multipart/mixed;deferSpec=20220824,{APOLLO}", GRAPHQL_RESPONSE, False),  # its @defer
        (f"multipart/mixed;incrementalSpec=v0.2,{APOLLO}", GRAPHQL_RESPONSE, False),
        (f"multipart/mixed;boundary=graphql;subscriptionSpec=1.0,{APOLLO}", GRAPHQL_RESPONSE, False),  # its subscriptions over HTTP
        (
            "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed",
            GRAPHQL_RESPONSE,
            True,
        ),  # urql
        ("text/event-stream, multipart/mixed", EVENT_STREAM, True),  # its subscriptions over HTTP
        ("application/graphql-response+json; charset=utf-8, application/json; charset=utf-8", GRAPHQL_RESPONSE, False),  # Relay's examples
        ("application/graphql-response+json, application/json", GRAPHQL_RESPONSE, False),  # graphql-http
        ("text/event-stream", EVENT_STREAM, True),  # EventSource, graphql-sse
        ("text/*", EVENT_STREAM, True),
        ("application/json, application/graphql-response+json;q=0.5", JSON, False),
        ("application/json;q=0.1, text/event-stream", JSON, True),  # a query never becomes a stream while JSON is acceptable
        ("application/json;q=0, text/event-stream", EVENT_STREAM, True),
        ("text/event-stream;q=0, application/json", JSON, False),
        ("application/json;q=0, */*", GRAPHQL_RESPONSE, False),
        ("APPLICATION/JSON; Q=1", JSON, False),
    ],
)
def test_the_media_types_are_chosen_by_quality_and_exactness(accept: str, single: str, streams: bool) -> None:
    assert negotiate(Headers({"accept": accept})) == Accepted(single, streams)


def test_without_the_header_the_answer_is_plain_json() -> None:
    assert negotiate(Headers({})) == Accepted(JSON, streams=False)


def test_several_headers_count_as_one() -> None:
    headers = Headers(raw=[(b"accept", b"text/html"), (b"accept", b"text/event-stream")])

    assert negotiate(headers) == Accepted(EVENT_STREAM, streams=True)


@pytest.mark.parametrize("accept", ["text/html", "multipart/mixed", "application/json;q=0", "*/*;q=0", "application/json;q=x", "json"])
def test_nothing_acceptable_is_406(accept: str) -> None:
    with pytest.raises(Refusal) as refused:
        negotiate(Headers({"accept": accept}))

    assert refused.value.status == 406
