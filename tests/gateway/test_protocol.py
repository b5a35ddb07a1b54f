"""The words on the wire: each is read as it was written, and nothing malformed raises anything but a refusal."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.events.names import is_event_name, is_reserved
from gateway import protocol
from gateway.protocol import Closing, ProtocolError, encode, from_device, from_server

ID = "55ff6d04498b49aabbccdd01"
AT = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (
            {
                "type": "hello", "deviceId": ID.upper(), "signature": "c2ln", "productId": 1094, "firmwareVersion": 3, "platform": "PHOTON",
                "serialNumber": "SN1", "functions": ["led"], "variables": {"temperature": "double"}, "resume": "s1", "claimCode": "cc",
            },
            protocol.Hello(ID, "c2ln", None, None, None, 1094, 3, "PHOTON", "SN1", ("led",), {"temperature": "double"}, "s1", "cc"),
        ),
        ({"type": "hello", "deviceId": ID}, protocol.Hello(ID)),
        (
            {"type": "publish", "id": "e1", "name": "temperature", "data": "21.5", "ttl": 30, "time": "2026-01-31T13:00:00.250+01:00"},
            protocol.Publish("e1", "temperature", "21.5", 30, AT),
        ),
        ({"type": "publish", "id": "e1", "name": "reset", "data": None}, protocol.Publish("e1", "reset", None, 60, None)),
        ({"type": "publish", "id": "e1", "name": "t", "time": "yesterday"}, protocol.Publish("e1", "t")),
        ({"type": "updateStatus", "id": "u1", "state": "DOWNLOADING", "progress": 40}, protocol.UpdateStatus("u1", "DOWNLOADING", 40)),
        ({"type": "updateStatus", "id": "u1", "state": "FAILED", "error": "no\0room"}, protocol.UpdateStatus("u1", "FAILED", None, "no�room")),
        ({"type": "updatesEnabled", "enabled": False}, protocol.UpdatesEnabled(False)),
        ({"type": "result", "id": "c1", "value": 1}, protocol.Result("c1", 1)),
        ({"type": "result", "id": "c1", "value": None}, protocol.Result("c1", None)),
        ({"type": "result", "id": "c1", "error": "burnt"}, protocol.Result("c1", error="burnt")),
        ({"type": "vitals", "battery": 0.8, "signal": {"rssi": -70}}, protocol.Vitals({"battery": 0.8, "signal": {"rssi": -70}})),
        ({"type": "ping", "somethingNew": [1]}, protocol.Ping()),
        ({"type": "invented", "deviceId": 5}, None),
    ],
)  # fmt: skip
def test_every_word_of_a_device_is_understood(frame, word):
    assert from_device(json.dumps(frame)) == word


@pytest.mark.parametrize(
    ("word", "frame"),
    [
        (protocol.Challenge("bm9uY2U", AT, 25.0),
         {"type": "challenge", "nonce": "bm9uY2U", "serverTime": "2026-01-31T12:00:00.250000Z", "keepAlive": 25.0}),
        (protocol.Welcome("s1", "ACTIVE", 1024, protocol.PublishRate(1.0, 4)),
         {"type": "welcome", "sessionId": "s1", "state": "ACTIVE", "maxPayload": 1024, "publishRate": {"perSecond": 1.0, "burst": 4}}),
        (protocol.Ack("e1"), {"type": "ack", "id": "e1"}),
        (protocol.Nack("RATE_LIMITED", "e1", 0.8), {"type": "nack", "code": "RATE_LIMITED", "id": "e1", "retryAfter": 0.8}),
        (protocol.Update("u1", 17, 4, "/firmware/x", 81234, "ab" * 32, None, AT),
         {"type": "update", "id": "u1", "sequence": 17, "version": 4, "url": "/firmware/x", "size": 81234, "sha256": "ab" * 32,
          "expiresAt": "2026-01-31T12:00:00.250000Z"}),
        (protocol.UpdateCanceled("u1"), {"type": "updateCanceled", "id": "u1"}),
        (protocol.Call("c1", "led", "on", 10.0), {"type": "call", "id": "c1", "name": "led", "argument": "on", "timeoutSeconds": 10.0}),
        (protocol.Read("c2", "temperature"), {"type": "read", "id": "c2", "name": "temperature"}),
        (protocol.Event("door", "open"), {"type": "event", "name": "door", "data": "open"}),
        (protocol.Pong(AT), {"type": "pong", "serverTime": "2026-01-31T12:00:00.250000Z"}),
    ],
)  # fmt: skip
def test_every_word_of_the_server_is_written_as_the_table_says_and_read_back(word, frame):
    text = encode(word)

    assert json.loads(text) == frame
    assert text.startswith('{"type":')
    assert from_server(text) == word


@pytest.mark.parametrize(
    "frame",
    [
        "", "null", "1", "[]", '"x"', "{", "{}", '{"type":1}', '{"type":null}', '{"type":["ping"]}', '{"type":"ping"} x', "{'type':'ping'}",
        '{"type":"hello"}', '{"type":"hello","deviceId":"55ff"}', '{"type":"hello","deviceId":7}',
        f'{{"type":"hello","deviceId":"{ID}","productId":65536}}', f'{{"type":"hello","deviceId":"{ID}","firmwareVersion":"3"}}',
        f'{{"type":"hello","deviceId":"{ID}","firmwareVersion":true}}', f'{{"type":"hello","deviceId":"{ID}","signature":{{}}}}',
        f'{{"type":"hello","deviceId":"{ID}","functions":"led"}}', f'{{"type":"hello","deviceId":"{ID}","functions":[1]}}',
        f'{{"type":"hello","deviceId":"{ID}","functions":["{"x" * 65}"]}}', f'{{"type":"hello","deviceId":"{ID}","variables":{{"t":"int"}}}}',
        f'{{"type":"hello","deviceId":"{ID}","platform":"a\\u0000b"}}',
        '{"type":"publish","name":"t"}', '{"type":"publish","id":7,"name":"t"}', '{"type":"publish","id":"","name":"t"}',
        '{"type":"publish","id":"1","name":["t"]}', '{"type":"publish","id":"1","name":"t","data":21.5}',
        '{"type":"publish","id":"1","name":"t","ttl":-1}', '{"type":"publish","id":"1","name":"t","data":"\\ud800"}',
        '{"type":"publish","id":"1","name":"t","time":7}',
        '{"type":"updateStatus","id":"u","state":"SUCCEEDED"}', '{"type":"updateStatus","id":"u","state":"FAILED","progress":101}',
        '{"type":"updateStatus","id":"u","state":[]}', '{"type":"updatesEnabled","enabled":1}', '{"type":"updatesEnabled"}',
        '{"type":"result","value":1}', '{"type":"vitals","id":7}', '{"type":"vitals","x":NaN}', '{"type":"vitals","x":1e999}',
        '{"type":"vitals","x":' + "[" * 40 + "]" * 40 + "}", '{"type":"ping","x":' + "9" * 100_000 + "}",
        "[" * 60_000, '{"type":"ping","x":' + '{"a":' * 30_000 + "1" + "}" * 30_001, '{"type":"\ud800"}', '{"\\ud800":1,"type":"ping"}',
    ],
)  # fmt: skip
def test_what_is_not_a_word_is_a_protocol_error_with_4400(frame):
    with pytest.raises(ProtocolError) as refused:
        from_device(frame)

    assert refused.value.code == Closing.MALFORMED == 4400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(["55" * 12, "FAILED", "e1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4),
    max_leaves=12,
)
types = st.sampled_from(["hello", "publish", "updateStatus", "updatesEnabled", "result", "vitals", "ping", "welcome", "nack", "update"])
names = st.sampled_from(
    ["deviceId", "id", "name", "data", "ttl", "time", "state", "progress", "error", "enabled", "value", "functions", "variables", "signature",
     "productId", "sessionId", "publishRate", "maxPayload", "code", "sequence", "url", "size", "sha256", "expiresAt"]
)  # fmt: skip
frames = st.builds(
    lambda kind, rest, ascii_only: json.dumps({"type": kind} | rest, ensure_ascii=ascii_only),
    types | json_values,
    st.dictionaries(names, json_values, max_size=6),
    st.booleans(),
)


@given(st.text(st.characters()) | frames)
def test_no_frame_raises_anything_but_a_protocol_error(frame):
    for read in (from_device, from_server):
        try:
            word = read(frame)
        except ProtocolError as refused:
            assert str(refused)
        else:
            if word is not None:
                assert read(encode(word)) == word
                encode(word).encode()


@pytest.mark.parametrize(("name", "fits"), [("a", True), ("A-b_c/9", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False),
                                            ("ä", False), ("a\n", False)])  # fmt: skip
def test_an_event_name_is_1_to_64_of_the_allowed_characters(name, fits):
    assert is_event_name(name) is fits


@pytest.mark.parametrize("name", ["particle", "Spark/x", "FLOTILLA-x", "sparkle"])
def test_reserved_prefixes_are_reserved_in_any_case(name):
    assert is_reserved(name)
