"""The reference device against the gateway, with every fault it can be told to have."""

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from firmware_formats.signing import new_key, sign, statement
from gateway import protocol
from gateway.protocol import Closing
from gateway.session import Limits
from public_keys import public_half
from simulator.device import SimulatedDevice, back_off_s
from simulator.faults import Faults
from simulator.flash import Flash
from tests.fake_fleet import FakeFleet, serving, until

ID = "55ff6d04498b49aabbccdd01"
FIRMWARE = bytes(range(256)) * 1000
QUICK = Limits(rate_per_s=100.0, burst=100)


def unkeyed(*ids) -> FakeFleet:
    fleet = FakeFleet()
    fleet.unkeyed = set(ids or (ID,))
    return fleet


@contextlib.asynccontextmanager
async def living(served, flash=None, *, faults=(), **more):
    """A device that runs and is online, at a hundredth of the waiting time."""
    flash = flash or Flash(ID, 1094, 3)
    device = SimulatedDevice(served.url, flash, provisioning_key="pk", faults=Faults(faults), pace=0.01, **more)
    task = asyncio.create_task(device.run())
    try:
        await asyncio.wait_for(device.online.wait(), 60)
        yield device
    finally:
        device.stop()
        await asyncio.wait_for(task, 60)


async def test_a_first_contact_pins_the_key_and_the_next_hello_needs_only_the_signature():
    async with serving(unkeyed()) as served:
        flash = Flash(ID.upper(), 1094, 3)
        async with living(served, flash):
            pass
        served.fleet.provisioning_key = "changed since"
        async with living(served, flash) as device:
            assert device.welcome.session_id == "s2"

        assert [hello.firmware_version for hello in served.fleet.hellos] == [3, 3]
        assert served.fleet.hellos[1].resume == "s1"


async def test_a_device_with_a_secret_uses_it():
    fleet = FakeFleet()
    fleet.secrets[ID] = "s3cret"
    async with serving(fleet) as served, living(served, Flash(ID, 1094, 3, secret="s3cret")):
        assert fleet.hellos[0].signature is None and fleet.hellos[0].mac is not None


async def test_events_are_said_again_after_a_cut_until_they_are_acknowledged_and_stored_once():
    async with serving(unkeyed()) as served, living(served) as device:
        served.fleet.durable.clear()
        done = device.post("temperature", "21.5", id="e1")
        await until(lambda: served.fleet.publishing == 1)
        await device.reconnect()
        await until(lambda: served.fleet.publishing == 2)
        assert not done.done()
        served.fleet.durable.set()

        assert await asyncio.wait_for(done, 60) == "ACKED"
        assert list(served.fleet.events) == [(ID, "e1")] and len(device.outbox) == 0


async def test_a_device_keeps_the_servers_pace():
    async with serving(unkeyed(), Limits(rate_per_s=20.0, burst=4)) as served, living(served) as device:
        answers = await asyncio.wait_for(asyncio.gather(*(device.post("t", str(n)) for n in range(12))), 60)

        assert answers == ["ACKED"] * 12
        assert [event.data for event in served.fleet.events.values()] == [str(n) for n in range(12)]
        assert served.fleet.refused.count("RATE_LIMITED") < 8  # as many as one that floods; jitter costs one or two


async def test_a_device_that_floods_is_refused():
    async with serving(unkeyed(), Limits(rate_per_s=0.01, burst=4)) as served, living(served, faults=["flood"]) as device:
        answers = await asyncio.wait_for(asyncio.gather(*(device.post("t", str(n)) for n in range(12))), 60)

        assert answers == ["ACKED"] * 4 + ["RATE_LIMITED"] * 8


async def test_functions_and_variables_are_answered():
    more = {
        "functions": {"led": lambda argument: 1 if argument == "on" else 0, "bad": lambda _: 1 // 0},
        "variables": {"temperature": 21.5},
    }
    async with serving(unkeyed()) as served, living(served, **more) as device:
        connection = served.fleet.connections[ID]

        assert (await connection.call("led", "on", 60)).value == 1
        assert (await connection.call("bad", "", 60)).failure == "DEVICE_ERROR"
        assert (await connection.call("none", "", 60)).message == "no function none"
        assert (await connection.read("temperature", 60)).value == 21.5
        device.variables["temperature"] = 22.5
        assert (await connection.read("temperature", 60)).value == 22.5
        assert served.fleet.hellos[0].functions == ("led", "bad") and served.fleet.hellos[0].variables == {"temperature": "double"}


async def test_a_device_that_never_answers_times_out():
    async with serving(unkeyed()) as served, living(served, faults=["never-answer"], functions={"led": lambda _: 1}):
        assert (await served.fleet.connections[ID].call("led", "on", 0.1)).failure == "DEVICE_TIMEOUT"


async def test_an_update_is_fetched_checked_installed_and_proved_by_the_next_hello():
    async with serving(unkeyed()) as served, living(served, Flash(ID, 6, 3), real_product_id=1094) as device:
        served.fleet.connections[ID].offer(served.shelf.offer("fw", FIRMWARE, sequence=1, version=4))
        await until(lambda: len(served.fleet.hellos) == 2)

        before, after = served.fleet.hellos
        assert (before.product_id, before.firmware_version) == (6, 3)
        assert (after.product_id, after.firmware_version) == (1094, 4)
        said = [(status.state, status.progress) for status in served.fleet.statuses]
        assert said[0] == ("DOWNLOADING", 0) and said[-1] == ("INSTALLING", 100)
        assert device.flash.version == 4


async def test_a_download_cut_again_and_again_is_resumed_and_nothing_is_sent_twice():
    async with serving(unkeyed()) as served, living(served):
        chance = random.Random(1)
        served.shelf.cuts = [chance.randrange(4096, 30_000) for _ in range(6)]
        served.fleet.connections[ID].offer(served.shelf.offer("fw", FIRMWARE, sequence=1, version=4))
        await until(lambda: len(served.fleet.hellos) == 2)

        assert served.fleet.hellos[1].firmware_version == 4
        assert len(served.shelf.requests) == 7
        assert served.shelf.sent == len(FIRMWARE)
        assert all(
            headers["if-range"].strip('"') == served.fleet.statuses[0].id or headers["range"] for headers in served.shelf.requests[1:]
        )


async def test_a_download_restarts_when_the_server_cannot_go_on_where_it_was_cut():
    async with serving(unkeyed()) as served, living(served):
        served.shelf.cuts, served.shelf.ignores_ranges = [20_000], True
        served.fleet.connections[ID].offer(served.shelf.offer("fw", FIRMWARE, sequence=1, version=4))
        await until(lambda: len(served.fleet.hellos) == 2)

        assert served.fleet.hellos[1].firmware_version == 4


async def test_a_power_cut_at_byte_n_reconnects_and_goes_on_at_byte_n_when_it_is_offered_again():
    fleet = unkeyed()
    async with serving(fleet) as served:
        update = served.shelf.offer("fw", FIRMWARE, sequence=1, version=4)
        fleet.meanwhile = lambda hello, connection: connection.offer(update) if hello.firmware_version == 3 else None
        async with living(served, faults=["drop-at=100000"]) as device:
            await until(lambda: fleet.hellos[-1].firmware_version == 4)

            assert [hello.firmware_version for hello in fleet.hellos] == [3, 3, 4]
            assert served.shelf.requests[1]["range"] == "bytes=100000-"
            assert device.closed_with[0] is None


@pytest.mark.parametrize(
    ("content", "told"),
    [(FIRMWARE, "the SHA-256 of what was downloaded is not the update's"), (None, "the server answered 404")],
)
async def test_a_download_that_is_not_the_update_fails_and_changes_nothing(content, told):
    async with serving(unkeyed()) as served, living(served, faults=["wrong-hash"]) as device:
        update = served.shelf.offer("fw", FIRMWARE, sequence=1, version=4)
        served.shelf.files["fw"] = content
        served.fleet.connections[ID].offer(update)
        await until(lambda: served.fleet.statuses and served.fleet.statuses[-1].state == "FAILED")

        assert served.fleet.statuses[-1] == protocol.UpdateStatus("u1", "FAILED", None, told)
        assert device.flash.version == 3 and len(served.fleet.hellos) == 1


ABOUT = statement(FIRMWARE, product_id=1094, version=4, platform="PHOTON")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (None, "version 4 comes with no signature"),
        *(
            (replace(ABOUT, **other), "version 4 comes with a signature that no trusted key made for it")
            for other in ({"version": 5}, {"product_id": 1}, {"platform": "P1"}, {"sha256": "0" * 64}, {"size": 1})
        ),
    ],
)
async def test_a_device_that_trusts_a_key_takes_no_offer_that_it_did_not_sign_and_says_so(about, said):
    key = new_key()
    async with serving(unkeyed()) as served, living(served, trusted_keys=[public_half(key)]) as device:
        signature = about and sign(key, about)
        served.fleet.connections[ID].offer(served.shelf.offer("fw", FIRMWARE, sequence=1, version=4, signature=signature))
        await until(lambda: served.fleet.statuses)

        assert served.fleet.statuses == [protocol.UpdateStatus("u1", "FAILED", None, said)]
        assert (served.shelf.requests, device.flash.version) == ([], 3)


async def test_a_device_takes_what_one_of_the_keys_it_trusts_has_signed_and_not_what_another_has():
    ours, other, stranger = new_key(), new_key(), new_key()
    trusted = [public_half(other), public_half(ours)]
    async with serving(unkeyed()) as served, living(served, Flash(ID, 6, 3), real_product_id=1094, trusted_keys=trusted) as device:
        offers = [
            served.shelf.offer("fw", FIRMWARE, id=f"u{place}", sequence=place, version=4, signature=sign(key, ABOUT))
            for place, key in enumerate((stranger, ours), 1)
        ]
        served.fleet.connections[ID].offer(offers[0])
        await until(lambda: served.fleet.statuses)
        served.fleet.connections[ID].offer(offers[1])
        await until(lambda: len(served.fleet.hellos) == 2)

        assert (served.fleet.statuses[0].id, served.fleet.statuses[0].state) == ("u1", "FAILED")
        assert device.flash.version == 4


async def test_a_device_that_crashes_after_boot_reports_the_old_version_as_often_as_scripted():
    fleet = unkeyed()
    async with serving(fleet) as served:
        update = served.shelf.offer("fw", b"x", sequence=1, version=4)
        fleet.meanwhile = lambda hello, connection: connection.offer(update) if hello.firmware_version == 3 else None
        async with living(served, faults=["crash-after-boot=2"]):
            await until(lambda: fleet.hellos[-1].firmware_version == 4)

            assert [hello.firmware_version for hello in fleet.hellos] == [3, 3, 3, 4]


async def test_a_device_that_never_acks_says_nothing_about_updates():
    async with serving(unkeyed()) as served, living(served, faults=["never-ack"]):
        served.fleet.connections[ID].offer(served.shelf.offer("fw", FIRMWARE, sequence=1, version=4))
        await asyncio.sleep(0.2)

        assert served.fleet.statuses == [] and served.shelf.requests == []


async def test_old_and_expired_orders_are_ignored():
    now = datetime.now(UTC)
    async with serving(unkeyed()) as served, living(served, Flash(ID, 1094, 3, sequence=7)) as device:
        connection = served.fleet.connections[ID]
        connection.offer(served.shelf.offer("old", b"old", sequence=6, version=9))
        connection.offer(served.shelf.offer("gone", b"gone", sequence=8, version=9, expires_at=now - timedelta(seconds=1)))
        await asyncio.sleep(0.2)
        assert served.shelf.requests == [] and device.flash.sequence == 7
        connection.offer(served.shelf.offer("new", b"new", sequence=9, version=4, expires_at=now + timedelta(minutes=15)))
        await until(lambda: served.fleet.hellos[-1].firmware_version == 4)


async def test_a_canceled_update_is_forgotten():
    async with serving(unkeyed()) as served, living(served, faults=["slow=0.05"]) as device:
        served.fleet.connections[ID].offer(served.shelf.offer("fw", FIRMWARE, sequence=1, version=4))
        await until(lambda: served.fleet.statuses)
        served.fleet.connections[ID].cancel("u1")
        await asyncio.sleep(1.2)

        assert device.flash.version == 3 and len(served.fleet.hellos) == 1
        assert {status.state for status in served.fleet.statuses} == {"DOWNLOADING"}


async def test_a_device_that_defers_updates_says_so_again_after_a_reconnect():
    async with serving(unkeyed()) as served, living(served) as device:
        await device.set_updates_enabled(False)
        await until(lambda: served.fleet.enabled == [False])
        await device.reconnect()
        await until(lambda: served.fleet.enabled == [False, False])


async def test_a_restart_of_the_server_brings_the_device_back():
    fleet = unkeyed()
    async with serving(fleet, QUICK) as served, living(served) as device:
        await served.gateway.close_all(over_s=0.0)
        served.gateway.is_draining = False
        await until(lambda: len(fleet.hellos) == 2)

        assert set(device.closed_with) == {Closing.RESTARTING}  # again, if it is back before the server is


async def test_a_device_whose_id_is_in_use_elsewhere_stays_away():
    async with serving(unkeyed()) as served, living(served) as first, living(served, Flash(ID, 1094, 3, key=first.flash.key)) as second:
        await until(lambda: first.closed_with == [Closing.REPLACED])
        await asyncio.sleep(0.1)

        assert not first.online.is_set() and second.online.is_set()


async def test_a_flapping_device_comes_and_goes():
    async with serving(unkeyed()) as served, living(served, faults=["flap=0.1"]):
        await until(lambda: len(served.fleet.hellos) >= 3)


@pytest.mark.parametrize(("code", "failures", "least", "most"), [(1012, 1, 0, 10), (None, 1, 0.5, 1.5), (None, 3, 2, 6), (4401, 9, 30, 90)])
def test_back_off_grows_and_is_spread(code, failures, least, most):
    waits = [back_off_s(code, failures, random.Random(n)) for n in range(200)]

    assert least <= min(waits) < least + 0.1 * (most - least)
    assert most - 0.1 * (most - least) < max(waits) <= most


async def test_key_version_and_order_survive_a_restart_in_a_file_only_its_owner_reads(tmp_path):
    path = tmp_path / "device.json"
    async with serving(unkeyed()) as served:
        async with living(served, Flash.at(path, Flash(ID, 1094, 3))):
            served.fleet.connections[ID].offer(served.shelf.offer("fw", b"x", sequence=17, version=4))
            await until(lambda: served.fleet.hellos[-1].firmware_version == 4)
        again = Flash.at(path, Flash(ID, 1094, 3))
        async with living(served, again):
            pass

        assert (again.version, again.sequence) == (4, 17)
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ValueError, match="belongs to device"):
            Flash.at(path, Flash("0" * 24))


def test_an_unknown_fault_is_refused_with_the_list():
    for wrong in ("explode", "drop-at", "slow"):
        with pytest.raises(ValueError, match="crash-after-boot"):
            Faults([wrong])
