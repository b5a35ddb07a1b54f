"""One device's conversation without a socket: words in, effects out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import effects, protocol
from gateway.effects import Answer, Answered, Authenticate, Close, DeviceEvent, Nacked, Publish, ReportUpdate, Say, SetUpdatesEnabled
from gateway.protocol import Closing
from gateway.session import Bucket, Limits, Session, Step

ID = "55ff6d04498b49aabbccdd01"
HELLO = json.dumps({"type": "hello", "deviceId": ID, "variables": {"temperature": "double", "name": "string", "on": "bool", "n": "int32"}})
LIMITS = Limits()


def said(effect_list):
    return [effect.word for effect in effect_list if isinstance(effect, Say)]


def greeted(*, quarantined=False, limits=LIMITS) -> Session:
    session = Session(limits, "bm9uY2U", 0.0)
    session.hear(HELLO, 0.0)
    session.greeted("s1", quarantined=quarantined)
    return session


def publish(session, name="t", data="1", now=0.0, id="e1"):
    return session.hear(json.dumps({"type": "publish", "id": id, "name": name, "data": data}), now)


def update(sequence, id="u1"):
    return protocol.Update(id, sequence, 4, "/firmware/x", 1, "ab" * 32)


# ── the opening ──
def test_a_conversation_opens_with_a_challenge_then_checks_the_hello_then_welcomes():
    session = Session(LIMITS, "bm9uY2U", 0.0)

    [challenge] = said(session.opening())
    [authenticate] = session.hear(HELLO, 1.0)
    [welcome] = said(session.greeted("s1"))

    assert (challenge.nonce, challenge.keep_alive) == ("bm9uY2U", 25.0)
    assert isinstance(authenticate, Authenticate) and authenticate.hello.device_id == ID
    assert welcome == protocol.Welcome("s1", "ACTIVE", 1024, protocol.PublishRate(1.0, 4))
    assert session.step is Step.GREETED


def test_a_quarantined_device_is_told_so():
    session = Session(LIMITS, "n", 0.0)
    session.hear(HELLO, 0.0)

    [welcome] = said(session.greeted("s1", quarantined=True))

    assert welcome.state == "QUARANTINED"


def test_what_is_pushed_before_the_welcome_follows_it_in_order():
    session = Session(LIMITS, "n", 0.0)
    session.hear(HELLO, 0.0)

    before = [*session.offer(update(1)), *session.event("a", None), *session.cancel("u1")]
    words = said(session.greeted("s1"))

    assert before == []
    assert [type(word) for word in words] == [protocol.Welcome, protocol.Update, protocol.Event, protocol.UpdateCanceled]


def test_too_much_pushed_before_the_welcome_closes_with_1013():
    session = Session(LIMITS, "n", 0.0)
    session.hear(HELLO, 0.0)

    done = [effect for _ in range(65) for effect in session.event("a", None)]

    assert [effect.code for effect in done] == [Closing.OVERLOADED]


@pytest.mark.parametrize("frame", ['{"type":"ping"}', '{"type":"publish","id":"1","name":"t"}', '{"type":"result","id":"1","value":1}'])
def test_nothing_is_heard_before_hello(frame):
    session = Session(LIMITS, "n", 0.0)

    assert [effect.code for effect in session.hear(frame, 0.0)] == [Closing.MALFORMED]
    assert session.hear(HELLO, 0.0) == []


def test_an_unknown_word_before_hello_is_ignored():
    session = Session(LIMITS, "n", 0.0)

    assert session.hear('{"type":"invented"}', 0.0) == []
    assert session.step is Step.CHALLENGED


def test_hello_is_said_once():
    session = greeted()

    assert [effect.code for effect in session.hear(HELLO, 0.0)] == [Closing.MALFORMED]


def test_no_hello_in_time_closes_with_4408():
    session = Session(LIMITS, "n", 0.0)

    assert session.tick(9.9, 9.9) == []
    assert [effect.code for effect in session.tick(10.0, 10.0)] == [Closing.SILENT]


@pytest.mark.parametrize("code", [Closing.WRONG_CREDENTIALS, Closing.DENIED])
def test_a_refused_hello_closes_and_says_nothing_else(code):
    session = Session(LIMITS, "n", 0.0)
    session.hear(HELLO, 0.0)

    assert session.refused(code) == [Close(code, "refused")]
    assert session.greeted("s1") == []


# ── what a device says ──
def test_a_publish_is_acknowledged_when_it_is_durable_and_not_before():
    session = greeted()

    assert publish(session, "temperature", "21.5") == [Publish(DeviceEvent("e1", "temperature", "21.5", 60, None))]
    assert session.acked("e1") == [Say(protocol.Ack("e1"))]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "ä", "particle", "Sparkle", "flotilla/x", "PARTICLE-x"])
def test_a_bad_name_is_refused_and_not_stored(name):
    assert publish(greeted(), name) == [Say(protocol.Nack("BAD_NAME", "e1")), Nacked("BAD_NAME")]


@pytest.mark.parametrize("data", ["x" * 1025, "é" * 513])
def test_data_over_the_limit_in_bytes_is_refused(data):
    assert publish(greeted(), data=data) == [Say(protocol.Nack("TOO_LARGE", "e1")), Nacked("TOO_LARGE")]


@pytest.mark.parametrize("data", ["x" * 1024, "é" * 512, "", None])
def test_data_up_to_the_limit_is_taken(data):
    [effect] = publish(greeted(), data=data)

    assert effect.event.data == data


def test_data_with_a_nul_is_refused_because_no_database_keeps_it():
    assert publish(greeted(), data="a\0b") == [Say(protocol.Nack("BAD_DATA", "e1")), Nacked("BAD_DATA")]


def test_the_fifth_publish_at_once_is_refused_and_told_when_to_come_back():
    session = greeted()

    answers = [publish(session, id=str(n), now=10.0) for n in range(5)]
    later = publish(session, id="4", now=11.0)

    assert [type(answer[0]) for answer in answers] == [Publish] * 4 + [Say]
    assert answers[4][0].word.code == "RATE_LIMITED"
    assert 1.0 <= answers[4][0].word.retry_after <= 1.001
    assert [type(effect) for effect in later] == [Publish]


def test_a_reconnect_does_not_refill_the_rate():
    first = greeted()
    for n in range(4):
        publish(first, id=str(n))
    again = Session(LIMITS, "n", 0.0)
    again.hear(HELLO, 0.0)

    again.greeted("s2", bucket=first.bucket)

    assert publish(again)[1] == Nacked("RATE_LIMITED")


def test_a_quarantined_device_publishes_nothing_until_it_is_approved():
    session = greeted(quarantined=True)

    assert publish(session) == [Say(protocol.Nack("QUARANTINED", "e1")), Nacked("QUARANTINED")]
    assert session.hear('{"type":"vitals","id":"v1","battery":1}', 0.0)[0].word.code == "QUARANTINED"
    session.standing(quarantined=False)
    assert [type(effect) for effect in publish(session)] == [Publish]


@pytest.mark.parametrize("name", ["spark/status", "SPARK/flash/status", "particle/device/updates/pending", "spark/" + "x" * 100])
def test_system_events_are_acknowledged_and_never_stored(name):
    assert publish(greeted(), name, "success") == [Say(protocol.Ack("e1"))]


def test_the_system_event_of_deferred_updates_becomes_status():
    session = greeted()

    assert publish(session, "particle/device/updates/enabled", "false") == [SetUpdatesEnabled(False), Say(protocol.Ack("e1"))]


def test_vitals_become_an_event_named_device_vitals():
    session = greeted()

    [effect] = session.hear('{"type":"vitals","battery":0.8,"signal":{"rssi":-70}}', 0.0)

    assert effect == Publish(DeviceEvent(None, "device/vitals", '{"battery":0.8,"signal":{"rssi":-70}}', 60, None))
    assert session.acked(None) == []


def test_vitals_count_for_rate_and_size_as_any_event():
    session = greeted()
    for n in range(4):
        publish(session, id=str(n))

    assert session.hear('{"type":"vitals","id":"v","a":1}', 0.0)[1] == Nacked("RATE_LIMITED")
    assert session.hear(json.dumps({"type": "vitals", "a": "x" * 1100}), 9.0)[1] == Nacked("TOO_LARGE")


def test_update_status_is_reported_and_progress_in_between_is_merged():
    session = greeted()

    def say(state, progress, now):
        return session.hear(json.dumps({"type": "updateStatus", "id": "u1", "state": state, "progress": progress}), now)

    reported = [say("DOWNLOADING", 0, 0.0), say("DOWNLOADING", 1, 0.1), say("DOWNLOADING", 50, 1.2), say("DOWNLOADING", 100, 1.3)]

    assert [[effect.status.progress for effect in one] for one in reported] == [[0], [], [50], [100]]
    assert say("FAILED", None, 1.3) == [ReportUpdate(protocol.UpdateStatus("u1", "FAILED"))]
    assert session.hear('{"type":"updateStatus","id":"u2","state":"FAILED"}', 1.3) == [ReportUpdate(protocol.UpdateStatus("u2", "FAILED"))]


def test_updates_enabled_is_told_at_first_and_when_it_changes():
    session = greeted()

    told = [session.hear(json.dumps({"type": "updatesEnabled", "enabled": on}), 0.0) for on in (True, True, False, False, True)]

    assert told == [[SetUpdatesEnabled(True)], [], [SetUpdatesEnabled(False)], [], [SetUpdatesEnabled(True)]]


def test_a_ping_is_answered_with_a_pong():
    assert [type(word) for word in said(greeted().hear('{"type":"ping"}', 0.0))] == [protocol.Pong]


def test_a_malformed_frame_closes_with_4400_and_the_rest_is_not_heard():
    session = greeted()

    assert [effect.code for effect in session.hear("[]", 0.0)] == [Closing.MALFORMED]
    assert publish(session) == [] and session.hear("[]", 0.0) == []


@pytest.mark.parametrize(("is_greeted", "size"), [(False, 65_536), (True, 131_072)])
def test_a_frame_over_the_cap_closes_with_1009(is_greeted, size):
    fits, over = ('{"type":"invented","x":"' + "é" * (n // 2) + '"}' for n in (size - 40, size))
    session = greeted() if is_greeted else Session(LIMITS, "n", 0.0)

    assert session.hear(fits, 0.0) == []
    assert [effect.code for effect in session.hear(over, 0.0)] == [Closing.TOO_LARGE]


# ── calls and reads ──
def ask(session, word, result, deadline=10.0):
    assert session.ask(word, deadline) == [Say(word)]
    return session.hear(json.dumps({"type": "result", "id": word.id} | result), 1.0)


@pytest.mark.parametrize("value", [0, -(2**31), 2**31 - 1])
def test_a_call_answers_an_int32(value):
    assert ask(greeted(), protocol.Call("c1", "led", "on"), {"value": value}) == [Answered(Answer("c1", value))]


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 1.0, True, "1", None, [1], {}])
def test_a_call_that_answers_anything_else_is_a_bad_answer(value):
    [answered] = ask(greeted(), protocol.Call("c1", "led", "on"), {"value": value})

    assert (answered.answer.failure, answered.answer.value) == ("BAD_ANSWER", None)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [21.5, 21, -1e300], ["21", None, True]),
        ("name", ["", "x" * 1000], [1, None, "x" * 1100]),
        ("on", [True, False], [1, None, "true"]),
        ("n", [7], [7.5, True, 2**31]),
        ("undeclared", [None, [1, {"a": "b"}], "x"], [["x" * 1100]]),
    ],
)
def test_a_read_answers_the_type_the_device_declared_in_at_most_1024_bytes(name, good, bad):
    session = greeted()

    for value in good:
        assert ask(session, protocol.Read("r1", name), {"value": value}) == [Answered(Answer("r1", value))]
    for value in bad:
        assert ask(session, protocol.Read("r1", name), {"value": value})[0].answer.failure == "BAD_ANSWER"


def test_an_error_or_no_value_at_all_fails_the_call():
    session = greeted()

    assert ask(session, protocol.Call("c1", "led"), {"error": "burnt"}) == [Answered(Answer("c1", None, "DEVICE_ERROR", "burnt"))]
    assert ask(session, protocol.Call("c2", "led"), {})[0].answer.failure == "BAD_ANSWER"


def test_a_call_is_answered_once_and_a_stranger_s_result_is_ignored():
    session = greeted()
    ask(session, protocol.Call("c1", "led"), {"value": 1})

    assert session.hear('{"type":"result","id":"c1","value":2}', 1.0) == []
    assert session.hear('{"type":"result","id":"never-asked","value":2}', 1.0) == []


def test_a_call_times_out_at_its_deadline_and_a_late_answer_is_ignored():
    session = greeted()
    session.ask(protocol.Call("c1", "led"), 10.0)

    assert session.tick(9.9, 9.9) == []
    assert session.tick(10.0, 10.0) == [Answered(Answer("c1", failure="DEVICE_TIMEOUT"))]
    assert session.hear('{"type":"result","id":"c1","value":1}', 10.1) == []


def test_who_waits_for_an_answer_is_told_when_the_device_goes():
    session = greeted()
    session.ask(protocol.Call("c1", "led"), 10.0)

    assert session.lost() == [Answered(Answer("c1", failure="DEVICE_OFFLINE"))]
    assert session.ask(protocol.Read("r1", "n"), 10.0) == [Answered(Answer("r1", failure="DEVICE_OFFLINE"))]


def test_more_than_64_open_calls_are_refused():
    session = greeted()
    for n in range(64):
        session.ask(protocol.Call(str(n), "led"), 10.0)

    assert session.ask(protocol.Call("x", "led"), 10.0) == [Answered(Answer("x", failure="TOO_MANY_CALLS"))]


# ── our side ──
def test_an_offer_older_than_one_already_said_is_not_said():
    session = greeted()

    assert session.offer(update(5)) == [Say(update(5))]
    assert session.offer(update(4)) == []
    assert session.offer(update(6)) == [Say(update(6))]


def test_a_quarantined_device_gets_no_events():
    assert greeted(quarantined=True).event("door", "open") == []


def test_a_device_not_heard_for_twice_the_keep_alive_is_closed_and_any_frame_counts():
    session = greeted()
    session.hear('{"type":"invented"}', 30.0)

    assert session.tick(79.9, 0.0) == []
    assert session.tick(100.0, 60.0) == []
    assert [effect.code for effect in session.tick(110.0, 60.0)] == [Closing.SILENT]


@pytest.mark.parametrize(("close", "code"), [(Session.replaced, 4409), (Session.restarting, 1012)])
def test_our_closes_carry_their_code_and_are_said_once(close, code):
    session = greeted()
    session.ask(protocol.Call("c1", "led"), 10.0)

    closing, answered = close(session)

    assert closing.code == code and answered.answer.failure == "DEVICE_OFFLINE"
    assert close(session) == [] and session.offer(update(1)) == [] and session.acked("e1") == []


# ── whatever comes ──
@given(st.lists(st.text() | st.sampled_from([HELLO, '{"type":"ping"}', '{"type":"publish","id":"1","name":"t"}', "[" * 5000]), max_size=8),
       st.booleans())  # fmt: skip
def test_no_sequence_of_frames_raises_and_nothing_follows_a_close(frames, is_greeted):
    session = greeted() if is_greeted else Session(LIMITS, "n", 0.0)
    closed = False

    for frame in frames:
        done = session.hear(frame, 1.0)
        assert not (closed and done)
        assert all(isinstance(effect, effects.Effect) for effect in done)
        closed = closed or any(isinstance(effect, Close) for effect in done)


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 50), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(waits, rate, burst):
    bucket, now, given_out = Bucket(rate, burst, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        given_out += bucket.take(now) == 0.0

    assert given_out <= burst + now * rate + 1e-6
