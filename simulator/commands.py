"""The commands `device` and `simulate`: one reference device, and many."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

import click

from gateway.fields import Json
from public_keys import is_public_key
from simulator.device import SimulatedDevice
from simulator.faults import FAULTS, Faults
from simulator.flash import Flash
from simulator.fleet import Plan, SimulatedFleet, numbered_ids

_FAULT_HELP = "May be given several times. " + "; ".join(f"{name}: {what}" for name, what in FAULTS.items())
_URL = click.option("--url", default="ws://127.0.0.1:8000/device", show_default=True, help="The server's device socket.")
_PRODUCT = click.option("--product-id", type=int, help="The product id its firmware reports.")
_VERSION = click.option("--version", "version", type=int, help="The firmware version it reports at first.")
_PLATFORM = click.option("--platform", default="PHOTON", show_default=True)
_PROVISIONING = click.option("--provisioning-key", help="The product's provisioning key, for the first contact of an imported device.")
_FAULT = click.option("--fault", "faults", multiple=True, help=_FAULT_HELP)


@click.command()
@_URL
@click.option("--device-id", required=True, help="24 hex digits.")
@_PRODUCT
@_VERSION
@_PLATFORM
@_PROVISIONING
@_FAULT
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Where it keeps its key and what it runs, over restarts.")
@click.option("--secret", help="Prove itself by HMAC with this secret in place of a key.")
@click.option("--serial-number")
@click.option("--claim-code", help="Shown in hello: the device becomes the customer's.")
@click.option("--real-product-id", type=int, help="The product id its firmware carries after an update.")
@click.option("--trusted-key", "trusted_keys", multiple=True, help="A maker's public key: take only firmware that one of these signed.")
@click.option("--publish-every", type=float, default=0.0, help="Seconds between temperature events; 0: none.")
def device(
    url: str, device_id: str, product_id: int | None, version: int | None, platform: str, provisioning_key: str | None,
    faults: tuple[str, ...], key_file: Path | None, secret: str | None, serial_number: str | None, claim_code: str | None,
    real_product_id: int | None, trusted_keys: tuple[str, ...], publish_every: float,
) -> None:  # fmt: skip
    """Be one device, until interrupted: hello, heartbeats, the function led, the variables led and temperature, updates."""
    fresh = Flash(device_id, product_id, version, secret=secret)
    script = _faults(faults)
    if not all(map(is_public_key, trusted_keys)):
        raise click.BadParameter("a public key is what `flotilla sign --key FILE` prints", param_hint="--trusted-key")
    variables: dict[str, Json] = {"temperature": 21.5, "led": "off"}

    async def live() -> None:
        flash = Flash.at(key_file, fresh) if key_file else fresh
        one = SimulatedDevice(
            url,
            flash,
            platform=platform,
            serial_number=serial_number,
            provisioning_key=provisioning_key,
            claim_code=claim_code,
            real_product_id=real_product_id,
            trusted_keys=trusted_keys,
            functions={"led": lambda argument: turn(one, argument)},
            variables=variables,
            faults=script,
            say=lambda line: click.echo(f"{flash.device_id} {line}"),
        )
        _on_signal(one.stop)
        publishing = asyncio.create_task(_publish(one, publish_every))
        await one.run()
        publishing.cancel()

    asyncio.run(live())


@click.command()
@_URL
@_PRODUCT
@_VERSION
@_PLATFORM
@_PROVISIONING
@_FAULT
@click.option("--devices", "count", type=click.IntRange(1), default=100, show_default=True)
@click.option("--ids", type=click.File(), help="Their ids, one a line; without it, ids are made up.")
@click.option("--rate", type=float, default=1.0, show_default=True, help="Events a second of each device.")
@click.option("--faulty", "faulty_share", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="How many have the faults.")
@click.option("--duration", type=float, help="Seconds; without it, until interrupted.")
@click.option("--connects-per-s", type=float, default=200.0, show_default=True)
@click.option("--ledger", type=click.File("w"), help="What was published and what became of it, as JSON lines.")
def simulate(
    url: str, product_id: int | None, version: int | None, platform: str, provisioning_key: str | None, faults: tuple[str, ...],
    count: int, ids: IO[str] | None, rate: float, faulty_share: float, duration: float | None, connects_per_s: float,
    ledger: IO[str] | None,
) -> None:  # fmt: skip
    """Be many devices in one process. Their keys follow from their ids, so that the same fleet is known again."""
    _faults(faults)
    given = [line.strip() for line in ids if line.strip()] if ids is not None else numbered_ids(count)
    plan = Plan(
        url, given[:count], product_id, version, platform, provisioning_key, rate, duration, connects_per_s, faults, faulty_share
    )  # fmt: skip

    async def live() -> None:
        fleet = SimulatedFleet(plan, ledger=ledger, progress=lambda line: click.echo(line, err=True))
        _on_signal(fleet.stop)
        await fleet.run()
        click.echo(fleet.summary())

    asyncio.run(live())


def _faults(scripted: tuple[str, ...]) -> Faults:
    try:
        return Faults(scripted)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None


def turn(one: SimulatedDevice, state: str) -> int:
    """The light goes on or off, and the device says so; -1 for anything else."""
    if state not in ("on", "off"):
        return -1
    one.variables["led"] = state
    one.post("led", state)
    return int(state == "on")


async def _publish(one: SimulatedDevice, every_s: float) -> None:
    while every_s > 0:
        await one.online.wait()
        one.post("temperature", str(one.variables["temperature"]))
        await asyncio.sleep(every_s)


def _on_signal(stop: Callable[[], None]) -> None:
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(name, stop)
