"""Many simulated devices, and the ledger of what they published."""

import asyncio
import io
import json
import signal
import sys

from gateway.session import Limits
from simulator.fleet import Plan, SimulatedFleet, numbered_ids
from tests.fake_fleet import FakeFleet, serving, until

IDS = numbered_ids(25)


def unkeyed() -> FakeFleet:
    fleet = FakeFleet()
    fleet.unkeyed = set(IDS)
    return fleet


async def test_many_devices_publish_and_the_ledger_holds_what_was_acknowledged():
    async with serving(unkeyed(), Limits(rate_per_s=50.0, burst=10)) as served:
        ledger = io.StringIO()
        fleet = SimulatedFleet(Plan(served.url, IDS, 1094, 3, provisioning_key="pk", rate_per_s=5.0), ledger=ledger)
        running = asyncio.create_task(fleet.run())
        await until(lambda: len(served.fleet.hellos) == 25 and fleet.counts["acked"] > 50)
        fleet.stop()
        counts = await running

        lines = [json.loads(line) for line in ledger.getvalue().splitlines()]
        acked = {(line["device"], line["id"]) for line in lines if line["what"] == "acked"}
        published = {(line["device"], line["id"]): line["data"] for line in lines if line["what"] == "published"}
        assert len(served.fleet.hellos) == 25
        assert counts["acked"] == len(acked) > 50
        assert acked <= set(served.fleet.events) <= set(published)
        assert all(served.fleet.events[key].data == published[key] for key in acked)


async def test_a_fleet_seen_before_is_known_by_the_same_keys():
    async with serving(unkeyed()) as served:
        for _ in range(2):
            fleet = SimulatedFleet(Plan(served.url, IDS, rate_per_s=0.0, provisioning_key="pk"))
            task = asyncio.create_task(fleet.run())
            await until(lambda fleet=fleet: sum(device.online.is_set() for device in fleet.devices) == 25)
            fleet.stop()
            await asyncio.wait_for(task, 60)

        assert len(served.fleet.hellos) == 50 and len(served.fleet.keys) == 25


async def command(*arguments):
    entry = "import sys, click; from simulator.commands import device, simulate; click.Group(commands=[device, simulate])(sys.argv[1:])"
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", entry, *arguments, stdout=pipe, stderr=pipe)


async def test_the_command_device_lives_until_sigterm_and_says_what_it_does(tmp_path):
    async with serving(unkeyed()) as served:
        process = await command(
            "device", "--url", served.url, "--device-id", IDS[0], "--product-id", "1094", "--version", "3", "--provisioning-key", "pk",
            "--key-file", str(tmp_path / "d.json"), "--publish-every", "0.1",
        )  # fmt: skip
        await until(lambda: len(served.fleet.events) >= 2, within_s=60)
        served.fleet.connections[IDS[0]].offer(served.shelf.offer("fw", b"x" * 9000, sequence=1, version=4))
        await until(lambda: len(served.fleet.hellos) == 2, within_s=60)
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), 60)

        assert (process.returncode, err) == (0, b"")
        assert f"{IDS[0]} booted version 4" in out.decode()
        assert served.fleet.hellos[1].firmware_version == 4


async def test_the_command_simulate_ends_after_its_duration_with_the_counts(tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(IDS))
    async with serving(unkeyed()) as served:
        process = await command(
            "simulate", "--url", served.url, "--devices", "10", "--ids", str(ids), "--provisioning-key", "pk", "--rate", "2",
            "--duration", "4", "--ledger", str(tmp_path / "ledger"),
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60)

        assert process.returncode == 0
        assert "/10 online" in out.decode()
        assert len(served.fleet.hellos) == 10
        assert '"what": "acked"' in (tmp_path / "ledger").read_text()


async def test_a_fault_that_does_not_exist_is_refused_by_the_command():
    process = await command("simulate", "--fault", "explode")
    _, err = await process.communicate()

    assert process.returncode == 2 and b"crash-after-boot" in err
