"""What a stranger can send to the webhook: refused, whatever it is, and never an error of ours."""

import hmac
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.signatures import BODY_MAX_BYTES, WebhookRefused, read_delivery

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "whsec_of_the_tests"
EVENT = {"id": "evt_1", "object": "event", "type": "invoice.paid", "created": 1, "data": {"object": {"id": "in_1", "customer": "cus_1"}}}


def signed(body: bytes, *, secret: str = SECRET, at: datetime = NOW) -> bytes:
    stamp = int(at.timestamp())
    return f"t={stamp},v1={hmac.new(secret.encode(), f'{stamp}.'.encode() + body, sha256).hexdigest()}".encode()


def test_a_signed_event_is_read() -> None:
    body = json.dumps(EVENT).encode()

    event = read_delivery(body, signed(body), secrets=["whsec_new", SECRET], now=NOW)

    assert (event.event_id, event.kind, event.customer_id) == ("evt_1", "invoice.paid", "cus_1")


def test_while_a_secret_is_replaced_the_provider_signs_with_both() -> None:
    body = json.dumps(EVENT).encode()
    both = signed(body, secret="whsec_old") + b",v1=" + signed(body).rpartition(b"v1=")[2]

    assert read_delivery(body, both, secrets=[SECRET], now=NOW).event_id == "evt_1"


@pytest.mark.parametrize("age_s", [-301, 301, 86400, -86400])
def test_a_stale_or_future_stamp_is_refused(age_s: int) -> None:
    body = json.dumps(EVENT).encode()

    with pytest.raises(WebhookRefused, match="five minutes"):
        read_delivery(body, signed(body, at=NOW - timedelta(seconds=age_s)), secrets=[SECRET], now=NOW)


@pytest.mark.parametrize("age_s", [-299, 0, 299])
def test_within_five_minutes_it_is_taken(age_s: int) -> None:
    body = json.dumps(EVENT).encode()

    assert read_delivery(body, signed(body, at=NOW - timedelta(seconds=age_s)), secrets=[SECRET], now=NOW)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"t=1",
        b"v1=00",
        b"t=,v1=00",
        b"t=x,v1=00",
        b"t=1,t=1,v1=00",
        b"t=-1,v1=00",
        b"t=1e9,v1=00",
        b"t=\xff,v1=\xff",
        "t=١٢٣,v1=00".encode(),
        b"t=9999999999999999999999,v1=00",
        b"t=1772323200,v1=" + b"0" * 64,
        b"t=1772323200,v0=" + b"0" * 64,
        b",=,=,",
    ],
)
def test_a_header_that_proves_nothing_is_refused(header: bytes) -> None:
    with pytest.raises(WebhookRefused):
        read_delivery(json.dumps(EVENT).encode(), header, secrets=[SECRET], now=NOW)


def test_a_forged_or_altered_body_is_refused() -> None:
    body = json.dumps(EVENT).encode()

    with pytest.raises(WebhookRefused):
        read_delivery(body, signed(body, secret="whsec_mine"), secrets=[SECRET], now=NOW)
    with pytest.raises(WebhookRefused):
        read_delivery(body.replace(b"evt_1", b"evt_2"), signed(body), secrets=[SECRET], now=NOW)
    with pytest.raises(WebhookRefused):
        read_delivery(body, signed(body), secrets=[], now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"event"',
        b"1",
        b"[" * 100_000,
        b'{"object":' * 50_000,
        b"\xff\xfe",
        b"{}",
        b'{"object": "event"}',
        b'{"object": "event", "id": 1, "type": "a", "data": {"object": {}}}',
        b'{"object": "event", "id": "", "type": "a", "data": {"object": {}}}',
        b'{"object": "event", "id": "a", "type": null, "data": {"object": {}}}',
        b'{"object": "event", "id": "a", "type": "b", "data": {"object": []}}',
        b'{"object": "event", "id": "a", "type": "b", "data": []}',
        b'{"object": "event", "id": "\\u0000", "type": "b", "data": {"object": {}}}',
        b'{"object": "event", "id": "' + b"a" * 256 + b'", "type": "b", "data": {"object": {}}}',
        b"1" * 10_000,
        b" " * (BODY_MAX_BYTES + 1),
    ],
)
def test_a_signed_body_that_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        read_delivery(body, signed(body), secrets=[SECRET], now=NOW)


@given(body=st.binary(max_size=200), header=st.binary(max_size=100))
def test_whatever_comes_is_refused_and_nothing_else_is_raised(body: bytes, header: bytes) -> None:
    with pytest.raises(WebhookRefused):
        read_delivery(body, header, secrets=[SECRET], now=NOW)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))


@given(parsed=st.fixed_dictionaries({}, optional={name: JSON | st.just(value) for name, value in EVENT.items()}))
def test_a_signed_body_is_an_event_or_refused(parsed: object) -> None:
    body = json.dumps(parsed).encode()

    try:
        event = read_delivery(body, signed(body), secrets=[SECRET], now=NOW)
    except WebhookRefused:
        return
    assert 0 < len(event.event_id) <= 255
    assert event.customer_id is None or isinstance(event.customer_id, str)
