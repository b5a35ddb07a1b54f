"""Devices that really connect, on both databases: proofs, placing, the newest session, and what the log makes them do."""

import asyncio
import gc
import json
import weakref
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fleet.devices import connecting
from fleet.devices.connecting import Report
from fleet.firmware import updating
from fleet.firmware.updating import Offer
from fleet.house import House
from gateway import proofs, protocol
from models.device import Device
from models.operations import AuditEntry
from models.product import Product
from public_keys import public_half, to_base64url
from realtime import log
from simulator.flash import Flash
from tests.connected import ID, PROVISIONING_KEY, a_device, a_product, entries, online, order, serving, until
from tests.house import HouseTester

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY_TEXT = to_base64url(KEY.private_bytes_raw())


@pytest.fixture
async def product(tester: HouseTester) -> Product:
    await tester.owner()
    return await a_product(tester)


def flash(**more: Any) -> Flash:
    return Flash(**{"device_id": ID, "product_id": 1094, "version": 3, "key": KEY_TEXT} | more)


async def close_code(url: str, **hello: Any) -> int | None:
    """What a hello that is refused is closed with; a value may be a function of the nonce."""
    async with connect(url, subprotocols=[protocol.SUBPROTOCOL], proxy=None) as ws:
        nonce = json.loads(await ws.recv())["nonce"]
        said = {name: value(nonce) if callable(value) else value for name, value in hello.items()}
        await ws.send(json.dumps({"type": "hello", "deviceId": ID, "productId": 1094, **said}))
        try:
            async with asyncio.timeout(60):
                raise AssertionError(await ws.recv())
        except ConnectionClosed:
            return ws.close_code


# ── proofs ──
async def test_an_imported_device_pins_its_key_at_first_contact_and_comes_back_by_it(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    async with serving(tester) as served:
        first = await served.connected(flash(), serial_number="SN1")
        await served.stop(first)
        await until(_is_offline)  # a goodbye that comes after the next hello would be nothing
        again = await served.connected(flash(), provisioning_key=None)

        assert again.welcome is not None
        assert again.welcome.state == "ACTIVE"
    device = await Device.get(device_id=ID)
    assert (device.public_key, device.serial_number) == (public_half(KEY), "SN1")
    assert [name for name, *_ in await entries("status")][:4] == ["FIRMWARE_CHANGED", "ONLINE", "OFFLINE", "ONLINE"]
    assert await online() is False


async def test_a_device_with_a_secret_proves_itself_by_it(tester: HouseTester, product: Product) -> None:
    await a_device(product, secret=tester.house.sealer.seal("s3cret", context=f"device/{ID}/secret"))
    async with serving(tester) as served:
        one = await served.connected(flash(key=None, secret="s3cret"), provisioning_key=None)
        await served.stop(one)

        assert await close_code(served.url, mac=lambda nonce: proofs.mac("wrong", nonce, ID)) == 4401


async def test_wrong_unknown_replayed_and_missing_proofs_look_alike(tester: HouseTester, product: Product) -> None:
    async with serving(tester) as served:
        unknown = await close_code(served.url, signature=lambda nonce: proofs.signature(KEY, nonce, ID))
        await a_device(product, public_key=public_half(KEY))
        missing = await close_code(served.url)
        replayed = await close_code(served.url, signature=proofs.signature(KEY, "an older nonce", ID))
        wrong = await close_code(served.url, signature=lambda nonce: proofs.signature(Ed25519PrivateKey.generate(), nonce, ID))

    assert [unknown, missing, replayed, wrong] == [4401] * 4
    assert await online() is None
    assert await entries() == []


async def test_a_second_key_is_refused_and_audited_once(tester: HouseTester, product: Product) -> None:
    await a_device(product, public_key=public_half(KEY))
    other = public_half(Ed25519PrivateKey.generate())
    async with serving(tester) as served:
        hello = {"publicKey": other, "provisioning": lambda nonce: proofs.provisioning(PROVISIONING_KEY, nonce, ID, other)}
        codes = [await close_code(served.url, **hello) for _ in range(2)]
        unproved = await close_code(served.url, publicKey=other, provisioning="x" * 43)

    assert [*codes, unproved] == [4401] * 3
    assert (await Device.get(device_id=ID)).public_key == public_half(KEY)
    refused = await AuditEntry.filter(action="device.key_refused")
    assert [(entry.subject, entry.actor, entry.address) for entry in refused] == [(f"device:{ID}", "gateway", "127.0.0.1")]


async def test_a_second_key_that_could_not_be_audited_is_put_off_and_audited_when_it_comes_back(
    tester: HouseTester, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_device(product, public_key=public_half(KEY))
    other = public_half(Ed25519PrivateKey.generate())
    hello = {"publicKey": other, "provisioning": lambda nonce: proofs.provisioning(PROVISIONING_KEY, nonce, ID, other)}
    async with serving(tester) as served:
        with monkeypatch.context() as away:
            away.setattr(connecting, "key_refused", _is_away)
            first = await close_code(served.url, **hello)
        again = await close_code(served.url, **hello)

    assert (first, again) == (1013, 4401)
    assert await AuditEntry.filter(action="device.key_refused").count() == 1


async def _is_away(device_id: str, *, address: str | None) -> None:
    raise ConnectionRefusedError


async def test_a_device_that_a_person_denied_is_closed_with_4403(tester: HouseTester, product: Product) -> None:
    await a_device(product, public_key=public_half(KEY), state="DENIED")
    async with serving(tester) as served:
        assert await close_code(served.url, signature=lambda nonce: proofs.signature(KEY, nonce, ID)) == 4403


# ── events ──
async def test_an_event_is_stored_once_however_often_it_is_said(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    long_id = "x" * 128
    async with serving(tester) as served:
        one = await served.connected(flash())
        answers = [await asyncio.wait_for(one.post("temperature", "21.5", id=said), 60) for said in ("e1", "e1", long_id, long_id)]

    assert answers == ["ACKED"] * 4
    found = [entry for entry in (await log.read_after(0)).entries if entry.kind == "event"]
    assert [(entry.name, entry.data, entry.firmware_version, entry.product_number) for entry in found] == [
        ("temperature", "21.5", 3, 1094)
    ] * 2


async def test_a_device_without_rights_is_told_so_and_nothing_is_stored(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    async with serving(tester) as served:
        one = await served.connected(flash(product_id=2000))
        said = await asyncio.wait_for(one.post("temperature", "1"), 60)

        assert one.welcome is not None
        assert (said, one.welcome.state) == ("QUARANTINED", "QUARANTINED")
        assert tester.live.refused == {"QUARANTINED": 1}
    assert await entries("event") == []


async def test_a_published_event_reaches_the_devices_with_rights_alone(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    await a_device(product, "0" * 23 + "1", state="QUARANTINED")
    await a_device(await a_product(tester, 2000), "0" * 23 + "2")
    async with serving(tester) as served:
        member = await served.connected(flash())
        waiting = await served.connected(flash(device_id="0" * 23 + "1"))
        stranger = await served.connected(flash(device_id="0" * 23 + "2", product_id=2000))
        token = (await tester.do("logIn", "token", email="ann@example.com", password="a correct horse for the tests"))["token"]
        await tester.do("publishEvent", "event { name }", token, productId=1094, name="door", data="open")
        await until(lambda: member.received)
        await asyncio.sleep(0.2)

        assert [(event.name, event.data) for event in member.received] == [("door", "open")]
        assert (waiting.received, stranger.received) == ([], [])


# ── the newest session ──
async def test_the_newest_session_wins_and_the_goodbye_of_the_older_changes_nothing(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    async with serving(tester) as served:
        old = await served.connected(flash())
        new = await served.connected(flash())
        await until(lambda: old.closed_with)
        await asyncio.sleep(0.2)

        assert old.closed_with == [4409]
        assert new.online.is_set()
        assert await online() is True
    assert [name for name, *_ in await entries("status")][:2] == ["FIRMWARE_CHANGED", "ONLINE"]


async def test_a_device_that_has_gone_leaves_nothing_to_the_garbage_collector(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    async with serving(tester) as served:
        device = await served.connected(flash())
        connection = weakref.ref(served.gateway.of_device[ID])
        gc.disable()
        try:
            await served.stop(device)
            await until(lambda: connection() is None)
        finally:
            gc.enable()


async def test_a_newer_session_in_another_process_closes_the_one_here(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    async with serving(tester) as served:
        old = await served.connected(flash())
        other = _house_of(tester, "p2")
        (connected,) = await connecting.hello([Report(ID, 1094, 3, proved_by=public_half(KEY))], house=other, now=datetime.now(UTC))
        await until(lambda: old.closed_with)
        await until(lambda: not served.gateway.connections)

        assert old.closed_with == [4409]
        assert await online() is True
        assert isinstance(connected, connecting.Connected)
        assert await connecting.is_newest(ID, connected.epoch)


def _house_of(tester: HouseTester, process: str) -> House:
    """The same house as another process would have it, as far as a hello needs it."""
    other: Any = type("OtherProcess", (), {"process": type("Lease", (), {"process": process})})
    return other


@pytest.mark.parametrize("code", [4401, 4403])
async def test_an_order_to_close_ends_the_session_with_its_code(tester: HouseTester, product: Product, code: int) -> None:
    await a_device(product)
    async with serving(tester) as served:
        one = await served.connected(flash(), pace=100)
        await order(product, "close", ID, str(code))
        await until(lambda: one.closed_with)

        assert one.closed_with == [code]
        await until(_is_offline)


async def _is_offline() -> bool:
    return await online() is False


# ── what to run ──
class Updates:
    """Stands for fleet.firmware.updating, and writes down what it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: list[tuple[bool, bool]] = []
        self.reports: list[tuple[Any, ...]] = []
        self.version = 4
        monkeypatch.setattr(updating, "to_offer", self.to_offer)
        monkeypatch.setattr(updating, "next_offer", self.next_offer)
        monkeypatch.setattr(updating, "reported", self.reported)

    async def to_offer(self, device_ids: Sequence[str], *, at_hello: Collection[str] = ()) -> list[str]:
        return list(device_ids)

    async def next_offer(self, device_id: str, *, updates_enabled: bool, at_hello: bool = False, house: House) -> Offer | None:
        self.looks.append((updates_enabled, at_hello))
        if not updates_enabled:
            return None
        soon = datetime.now(UTC) + timedelta(minutes=15)
        return Offer(f"{len(self.looks)}", len(self.looks), self.version, "/firmware/none", 1, "ab" * 32, None, soon)

    async def reported(self, *about: Any, house: House) -> None:
        self.reports.append(about)


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> Updates:
    return Updates(monkeypatch)


async def test_a_device_is_offered_what_it_should_run_at_hello_and_reports_how_it_goes(
    tester: HouseTester, product: Product, updates: Updates
) -> None:
    await a_device(product)
    async with serving(tester) as served:
        await served.connected(flash())
        await until(lambda: updates.reports)

    assert updates.looks[0] == (True, True)
    assert updates.reports[0][:3] == (ID, "1", "DOWNLOADING")


async def test_a_quarantined_device_is_offered_firmware_once_it_is_approved(
    tester: HouseTester, product: Product, updates: Updates
) -> None:
    await a_device(product, state="QUARANTINED")
    async with serving(tester) as served:
        one = await served.connected(flash())
        await asyncio.sleep(0.1)
        looks_before = list(updates.looks)
        await Device.filter(device_id=ID).update(state="ACTIVE")
        await order(product, "consider", ID)
        await until(lambda: updates.reports)
        said = await asyncio.wait_for(one.post("temperature", "1"), 60)

    assert looks_before == []
    assert updates.looks[0] == (True, True)
    assert said == "ACKED"


async def test_orders_to_consider_and_to_release_make_sessions_decide_again(
    tester: HouseTester, product: Product, updates: Updates
) -> None:
    updates.version = 3
    await a_device(product)
    await a_device(product, "0" * 23 + "1")
    async with serving(tester) as served:
        await served.connected(flash())
        await served.connected(flash(device_id="0" * 23 + "1"))
        await until(lambda: len(updates.looks) == 2)
        await order(product, "consider", ID)
        await until(lambda: len(updates.looks) == 3)
        await order(product, "release")
        await until(lambda: len(updates.looks) == 5)
        await asyncio.sleep(0.1)

    assert updates.looks[2:] == [(True, False)] * 3


async def test_a_device_that_defers_updates_is_offered_them_when_it_is_willing(
    tester: HouseTester, product: Product, updates: Updates
) -> None:
    await a_device(product)
    async with serving(tester) as served:
        one = await served.connected(flash(), faults=None)
        await until(lambda: len(updates.looks) == 1)
        await one.set_updates_enabled(False)
        await until(lambda: not next(iter(served.gateway.connections)).admission.updates_enabled)
        await order(product, "consider", ID)
        await until(lambda: len(updates.looks) == 2)
        await one.set_updates_enabled(True)
        await until(lambda: len(updates.looks) == 3)

    assert updates.looks == [(True, True), (False, False), (True, False)]
