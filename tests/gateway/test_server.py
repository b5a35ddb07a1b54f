"""The gateway's socket under a real uvicorn: opening, publishing, and what our side says to a device."""

import asyncio
import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway import proofs, protocol
from gateway.effects import Answer
from gateway.protocol import Closing
from gateway.session import Limits
from public_keys import public_half
from tests.fake_fleet import FakeFleet, serving, until
from tests.raw_device import FAST, ID, KEY, close_code, greet, heard, known, raw, say


# ── the opening ──
async def test_a_device_is_challenged_proves_itself_and_is_welcomed():
    async with serving(known()) as served, raw(served.url) as ws:
        welcome = await greet(ws, productId=1094, firmwareVersion=3)

        assert ws.subprotocol == "flotilla.device.v1"
        assert welcome == {
            "type": "welcome", "sessionId": "s1", "state": "ACTIVE", "maxPayload": 1024, "publishRate": {"perSecond": 1.0, "burst": 4},
        }  # fmt: skip
        assert served.fleet.hellos[0].firmware_version == 3


async def test_another_subprotocol_or_none_is_refused_before_the_socket_opens():
    async with serving() as served:
        for offered in (None, ["graphql-transport-ws"]):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(served.url, subprotocols=offered, proxy=None):
                    pass
            assert refused.value.response.status_code == 400
        assert served.gateway.connections == set()


async def test_a_recorded_login_replayed_is_refused():
    async with serving(known()) as served:
        async with raw(served.url) as ws:
            old = await heard(ws)
        async with raw(served.url) as ws:
            await heard(ws)
            await say(ws, type="hello", deviceId=ID, signature=proofs.signature(KEY, old["nonce"], ID))
            assert await close_code(ws) == 4401
        assert served.fleet.hellos == []


async def test_wrong_unknown_and_missing_credentials_get_the_same_answer():
    async with serving(known()) as served:
        codes = []
        for id, key in ((ID, Ed25519PrivateKey.generate()), ("0" * 24, KEY)):
            async with raw(served.url) as ws:
                challenge = await heard(ws)
                await say(ws, type="hello", deviceId=id, signature=proofs.signature(key, challenge["nonce"], id))
                codes.append((await close_code(ws), ws.close_reason))
        async with raw(served.url) as ws:
            await heard(ws)
            await say(ws, type="hello", deviceId=ID)
            codes.append((await close_code(ws), ws.close_reason))

        assert codes == [(4401, "refused")] * 3
        assert served.fleet.gone == []


async def test_a_device_with_a_secret_proves_itself_by_mac():
    fleet = FakeFleet()
    fleet.secrets[ID] = "s3cret"
    async with serving(fleet) as served, raw(served.url) as ws:
        challenge = await heard(ws)
        await say(ws, type="hello", deviceId=ID.upper(), mac=proofs.mac("s3cret", challenge["nonce"], ID))

        assert (await heard(ws))["type"] == "welcome"


async def test_a_first_contact_pins_the_key_and_a_second_key_is_refused():
    fleet = FakeFleet()
    fleet.unkeyed.add(ID)

    async def first_contact(served, key):
        async with raw(served.url) as ws:
            nonce = (await heard(ws))["nonce"]
            public = public_half(key)
            await say(ws, type="hello", deviceId=ID, publicKey=public, provisioning=proofs.provisioning("pk", nonce, ID, public))
            with contextlib.suppress(ConnectionClosed):
                return await heard(ws)
            return ws.close_code

    async with serving(fleet) as served:
        assert (await first_contact(served, KEY))["type"] == "welcome"
        assert await first_contact(served, Ed25519PrivateKey.generate()) == 4401
        assert fleet.keys == {ID: public_half(KEY)}


async def test_a_denied_device_is_closed_with_4403():
    fleet = known()
    fleet.denied.add(ID)
    async with serving(fleet) as served, raw(served.url) as ws:
        challenge = await heard(ws)
        await say(ws, type="hello", deviceId=ID, signature=proofs.signature(KEY, challenge["nonce"], ID))

        assert await close_code(ws) == 4403


async def test_no_hello_in_time_is_closed_with_4408():
    async with serving(known(), Limits(hello_timeout_s=0.3)) as served, raw(served.url) as ws:
        assert await close_code(ws, 9.0) == 4408  # before the ten seconds that others have
        await until(lambda: not served.gateway.connections)


@pytest.mark.parametrize(
    "frame", ["[]", "1", "x", b"\x00", '{"type":"hello","deviceId":[]}', "[" * 50_000, '{"type":' + "9" * 60_000 + "}"]
)
async def test_a_malformed_frame_is_closed_with_4400(frame):
    async with serving(known()) as served, raw(served.url) as ws:
        await ws.send(frame)

        assert await close_code(ws) == 4400


async def test_a_frame_over_the_cap_is_closed_with_1009_before_and_after_hello():
    async with serving(known()) as served:
        async with raw(served.url) as ws:
            await ws.send("x" * 66_000)
            assert await close_code(ws) == 1009
        async with raw(served.url) as ws:
            await greet(ws)
            await ws.send(json.dumps({"type": "publish", "id": "1", "name": "t", "data": "x" * 100_000}))
            assert (await heard(ws))["code"] == "TOO_LARGE"
            await ws.send("x" * 132_000)
            assert await close_code(ws) == 1009


async def test_what_is_released_between_listening_and_greeting_is_not_missed():
    fleet = known()
    fleet.meanwhile = lambda hello, connection: connection.offer(protocol.Update("u1", 1, 4, "/firmware/x", 1, "ab" * 32))
    async with serving(fleet) as served, raw(served.url) as ws:
        assert (await greet(ws))["type"] == "welcome"
        assert (await heard(ws))["sequence"] == 1


async def test_the_newest_session_wins_and_the_older_is_closed_with_4409():
    async with serving(known()) as served, raw(served.url) as old, raw(served.url) as new:
        await greet(old)
        await greet(new)

        assert await close_code(old) == 4409
        await until(lambda: served.fleet.gone == [(1, Closing.REPLACED)])
        assert served.gateway.of_device[ID].admission.epoch == 2
        await say(new, type="ping")
        assert (await heard(new))["type"] == "pong"


async def test_a_session_admitted_late_with_an_older_epoch_gives_way():
    fleet = known()
    late = []
    authenticate = fleet.authenticate

    def slow_first(hello, connection):
        if fleet.hellos:
            authenticate(hello, connection)
        else:
            late.append((connection, fleet.judge(hello, connection)))

    fleet.authenticate = slow_first
    async with serving(fleet) as served, raw(served.url) as old, raw(served.url) as new:
        nonce = (await heard(old))["nonce"]
        await say(old, type="hello", deviceId=ID, signature=proofs.signature(KEY, nonce, ID))
        await until(lambda: fleet.hellos)
        await greet(new)
        [(connection, admission)] = late
        connection.admitted(admission)

        assert await close_code(old) == 4409
        assert served.gateway.of_device[ID].admission.epoch == 2


async def test_too_many_connects_are_closed_with_4429():
    async with serving(known(), connects_per_s=0.01) as served, contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(raw(served.url)) for _ in range(2)]

        assert (await heard(sockets[0]))["type"] == "challenge"
        assert await close_code(sockets[1]) == 4429


async def test_a_fleet_that_cannot_answer_closes_with_1013():
    fleet = known()
    fleet.is_broken = True
    async with serving(fleet) as served, raw(served.url) as ws:
        challenge = await heard(ws)
        await say(ws, type="hello", deviceId=ID, signature=proofs.signature(KEY, challenge["nonce"], ID))

        assert await close_code(ws) == 1013


# ── what it says ──
async def test_a_publish_is_acknowledged_after_it_is_durable_and_the_reading_goes_on_meanwhile():
    fleet = known()
    async with serving(fleet) as served, raw(served.url) as ws:
        await greet(ws)
        fleet.durable.clear()
        for id in ("a", "b", "a"):
            await say(ws, type="publish", id=id, name="t", data="1")
        await say(ws, type="ping")

        assert (await heard(ws))["type"] == "pong"
        fleet.durable.set()
        assert [await heard(ws) for _ in range(3)] == [{"type": "ack", "id": id} for id in ("a", "b", "a")]
        assert list(fleet.events) == [(ID, "a"), (ID, "b")]


async def test_at_most_64_publishes_of_a_device_wait_for_their_commit():
    fleet = known()
    fleet.durable.clear()
    async with serving(fleet, FAST) as served, raw(served.url) as ws:
        await greet(ws)
        for n in range(200):
            await say(ws, type="publish", id=str(n), name="t")
        await until(lambda: fleet.publishing == 64)
        await asyncio.sleep(0.1)
        assert fleet.publishing == 64
        fleet.durable.set()

        assert {(await heard(ws))["id"] for _ in range(200)} == {str(n) for n in range(200)}
        assert fleet.most_publishing == 64 and len(fleet.events) == 200


async def test_an_event_that_could_not_be_kept_is_not_acknowledged():
    fleet = known()
    async with serving(fleet) as served, raw(served.url) as ws:
        await greet(ws)
        fleet.is_broken = True
        await say(ws, type="publish", id="a", name="t")
        await say(ws, type="ping")
        assert (await heard(ws))["type"] == "pong"
        fleet.is_broken = False
        await say(ws, type="publish", id="a", name="t")

        assert await heard(ws) == {"type": "ack", "id": "a"}


async def test_what_a_device_says_of_itself_reaches_the_fleet():
    fleet = known()
    async with serving(fleet) as served, raw(served.url) as ws:
        await greet(ws)
        await say(ws, type="updateStatus", id="u1", state="DOWNLOADING", progress=40)
        await say(ws, type="updatesEnabled", enabled=False)
        await say(ws, type="vitals", battery=0.5)
        await say(ws, type="publish", id="x", name="flotilla")
        assert (await heard(ws))["code"] == "BAD_NAME"

        assert fleet.statuses == [protocol.UpdateStatus("u1", "DOWNLOADING", 40)]
        assert fleet.enabled == [False]
        assert [(event.name, event.data) for event in fleet.events.values()] == [("device/vitals", '{"battery":0.5}')]
        assert fleet.refused == ["BAD_NAME"]


async def test_a_quick_reconnect_does_not_refill_the_rate():
    async with serving(known(), Limits(rate_per_s=0.01)) as served:
        async with raw(served.url) as ws:
            await greet(ws)
            for n in range(4):
                await say(ws, type="publish", id=str(n), name="t")
                assert (await heard(ws))["type"] == "ack"
        async with raw(served.url) as ws:
            await greet(ws)
            await say(ws, type="publish", id="4", name="t")
            assert (await heard(ws))["code"] == "RATE_LIMITED"


# ── what our side says ──
async def test_calls_and_reads_are_answered_fail_or_time_out():
    fleet = known()
    async with serving(fleet) as served, raw(served.url) as ws:
        await greet(ws, functions=["led"], variables={"temperature": "double"})
        connection = fleet.connections[ID]
        call, read, late = connection.call("led", "on", 60.0), connection.read("temperature", 60.0), connection.call("led", "off", 0.05)
        asked = [await heard(ws) for _ in range(3)]
        await say(ws, type="result", id=asked[0]["id"], value=1)
        await say(ws, type="result", id=asked[1]["id"], value=21.5)
        last = connection.call("led", "x", 60.0)
        await until(late.done)
        await ws.close()

        assert {k: asked[0][k] for k in ("type", "name", "argument")} == {"type": "call", "name": "led", "argument": "on"}
        assert await call == Answer(asked[0]["id"], 1)
        assert await read == Answer(asked[1]["id"], 21.5)
        assert (await late).failure == "DEVICE_TIMEOUT"
        assert (await asyncio.wait_for(last, 30)).failure == "DEVICE_OFFLINE"


async def test_events_cancellations_and_closes_are_said():
    fleet = known()
    async with serving(fleet) as served, raw(served.url) as ws:
        await greet(ws)
        connection = fleet.connections[ID]
        connection.event("door", "open")
        connection.cancel("u1")
        connection.close(Closing.DENIED, "denied")

        assert [await heard(ws), await heard(ws)] == [
            {"type": "event", "name": "door", "data": "open"}, {"type": "updateCanceled", "id": "u1"},
        ]  # fmt: skip
        assert await close_code(ws) == 4403
        await until(lambda: fleet.gone == [(1, Closing.DENIED)])
