"""Returns in one act: the owner goes with every right, the history is cut, and the device is readied for the next one."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.devices import connecting, owning
from fleet.devices.connecting import Report
from fleet.seeing import Sight
from models.customer import ClaimCode, Customer
from models.device import Device, Presence
from models.log import LogEntry
from models.operations import AuditEntry
from models.transaction import transaction
from realtime import log
from realtime.log import NewEntry
from tests.connected import subscribed
from tests.customers import IDS, LAMP, a_device, codes, lamp, owner_of, sign_up
from tests.firmware_house import Sent, binary
from tests.house import GraphQLFailed, HouseTester
from tests.stored import whatever_a_refusal_must_leave_alone

ID = IDS[0]
EVENTS = f'{{ device(deviceId: "{ID}") {{ events {{ totalCount nodes {{ name cursor }} }} }} }}'


async def publish(name: str, *, at: datetime | None = None) -> None:
    """As the device does."""
    async with transaction():
        await log.append(NewEntry(LAMP, "event", name, at or datetime.now(UTC), ID))


async def claim(tester: HouseTester, token: str) -> None:
    assert codes(await tester.do("claimDevice", "clientMutationId", token, deviceId=ID)) == []


async def give_back(tester: HouseTester, token: str, **more: Any) -> Any:
    return await tester.do("unclaimDevice", "device { deviceId groups { path } desiredFirmwareVersion }", token, deviceId=ID, **more)


async def names(tester: HouseTester, token: str) -> list[str] | None:
    found = (await tester.ask(EVENTS, token))["device"]
    if found is None:
        return None
    assert found["events"]["totalCount"] == len(found["events"]["nodes"])
    return [each["name"] for each in found["events"]["nodes"]]


async def two_owners(tester: HouseTester) -> tuple[str, str, str]:
    """The tokens of the team's owner, of the former and of the present owner of ID; each device time has its event."""
    owner = await lamp(tester)
    await a_device()
    former, present = await sign_up(tester, "former"), await sign_up(tester, "present")
    await publish("nobodys")
    await claim(tester, former)
    await publish("formers")
    assert codes(await give_back(tester, owner)) == []
    await publish("between")
    await claim(tester, present)
    await publish("presents")
    return owner, former, present


async def test_each_owner_sees_the_history_of_their_own_time_and_the_team_all_of_it(tester: HouseTester) -> None:
    owner, former, present = await two_owners(tester)

    assert await names(tester, owner) == ["nobodys", "formers", "between", "presents"]
    assert await names(tester, former) is None
    assert await names(tester, present) == ["presents"]


async def test_an_event_published_before_the_hand_over_and_stored_after_it_is_not_the_next_owners(tester: HouseTester) -> None:
    _, _, present = await two_owners(tester)
    await publish("late", at=(await Device.get()).claimed_at - timedelta(milliseconds=1))

    assert await names(tester, present) == ["presents"]
    seen = Sight((await Device.get()).product_id, frozenset(), (await Customer.get(username="present")).id)
    kept = await owning.entries_seen(seen, (await log.read_after(0, kinds=("event",))).entries)
    assert [entry.name for entry in kept] == ["presents"]


async def test_a_replay_from_before_the_hand_over_gives_nothing_of_then(tester: HouseTester) -> None:
    owner, _, present = await two_owners(tester)
    first = (await tester.ask(EVENTS, owner))["device"]["events"]["nodes"][0]["cursor"]

    follow = f'subscription ($after: Cursor) {{ deviceStatus(deviceId: "{ID}", after: $after) {{ change cursor }} }}'
    async with subscribed(tester, follow, present, after=first) as stream:
        changes = [each["change"] for each in await stream.take(2)]
        assert await stream.is_silent()

    assert changes == ["SNAPSHOT", "CLAIMED"]


async def test_a_running_stream_says_nothing_of_after_the_return_and_ends(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await a_device()
    kim = await sign_up(tester, "kim")
    await claim(tester, kim)
    heard = []

    async with subscribed(tester, f'subscription {{ deviceStatus(deviceId: "{ID}") {{ change }} }}', kim) as stream:
        heard.append((await stream.next())["change"])
        await give_back(tester, owner)
        async with transaction():
            await log.append(*(NewEntry(LAMP, "status", "ONLINE", datetime.now(UTC), ID) for _ in range(3)))
        with pytest.raises(GraphQLFailed) as ended:
            while True:
                heard.append((await stream.next())["change"])

    assert heard == ["SNAPSHOT"]
    assert ended.value.codes == ["NOT_FOUND"]


async def test_the_next_owner_is_not_told_where_and_when_the_device_was_connected_before(tester: HouseTester) -> None:
    owner, _, present = await two_owners(tester)
    before = datetime.now(UTC) - timedelta(hours=1)
    row = await Device.get()
    await Presence.create(
        device=row, online=False, epoch=1, last_heard=before, last_handshake_at=before, last_ip_address="192.0.2.7",
        connects_since=before, connects=1,
    )  # fmt: skip
    asked = f'{{ device(deviceId: "{ID}") {{ lastHeard lastHandshakeAt lastIpAddress }} }}'

    own, team = (await tester.ask(asked, present))["device"], (await tester.ask(asked, owner))["device"]
    report = Report(ID, product_id=LAMP, firmware_version=1, address="192.0.2.9")
    await connecting.hello([report], house=tester.house, now=datetime.now(UTC))
    since = (await tester.ask(asked, present))["device"]

    assert own == {"lastHeard": None, "lastHandshakeAt": None, "lastIpAddress": None}
    assert team["lastIpAddress"] == "192.0.2.7"
    assert None not in (team["lastHeard"], team["lastHandshakeAt"], since["lastHeard"], since["lastHandshakeAt"])
    assert since["lastIpAddress"] == "192.0.2.9"


async def test_the_former_owners_unused_claim_codes_end_with_the_return(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await a_device()
    kim = await sign_up(tester, "kim")
    await claim(tester, kim)
    code = (await tester.do("createClaimCode", "claimCode", kim, productId=LAMP))["claimCode"]

    await give_back(tester, owner)
    report = Report(ID, product_id=LAMP, firmware_version=1, claim_code=code)
    await connecting.hello([report], house=tester.house, now=datetime.now(UTC))

    assert (await owner_of(), await ClaimCode.all().count()) == (None, 0)


async def test_a_customer_gives_back_their_own_and_sees_it_no_more(tester: HouseTester) -> None:
    await lamp(tester)
    await a_device()
    kim, ann = await sign_up(tester, "kim"), await sign_up(tester, "ann")
    await claim(tester, kim)
    before = await whatever_a_refusal_must_leave_alone()
    refused = [await give_back(tester, ann), await give_back(tester, kim, lockToVersion=1)]
    unchanged = await whatever_a_refusal_must_leave_alone() == before

    payload = await give_back(tester, kim)

    assert [codes(each) for each in refused] == [["NOT_FOUND"], ["FORBIDDEN"]]
    assert unchanged
    assert (codes(payload), payload["device"]) == ([], None)
    assert await owner_of() is None
    entry = await AuditEntry.get(action="device.unclaimed")
    assert (entry.actor, entry.detail) == ("customer:kim", {"owner": "customer:kim"})


# ── readied for the next ──
async def readied(tester: HouseTester) -> tuple[str, str]:
    """The tokens of the team's owner and of kim, who owns ID, in the group `sold`; `refurbished` and version 3 wait."""
    owner = await lamp(tester)
    kim = await sign_up(tester, "kim")
    await a_device()
    await claim(tester, kim)
    for path in ("sold", "refurbished"):
        made = await tester.do("createDeviceGroup", "group { id }", owner, productId=LAMP, name=path)
        if path == "sold":
            await tester.do("addDevicesToGroup", "clientMutationId", owner, groupId=made["group"]["id"], deviceIds=[ID])
    given = {"productId": LAMP, "version": 3, "title": "Refurbishing", "binary": Sent(binary(LAMP, 3))}
    assert codes(await tester.do("uploadFirmware", "clientMutationId", owner, **given)) == []
    return owner, kim


async def test_one_act_takes_the_owner_moves_the_device_and_locks_it(tester: HouseTester) -> None:
    owner, kim = await readied(tester)
    before = len(await tester.audited())

    payload = await give_back(tester, owner, moveToGroup="refurbished", lockToVersion=3)

    assert codes(payload) == []
    assert payload["device"] == {"deviceId": ID, "groups": [{"path": "refurbished"}], "desiredFirmwareVersion": 3}
    assert await owner_of() is None
    assert sorted((await tester.audited())[before:]) == ["device.locked", "device.unclaimed", "group.devices_added"]
    told = await LogEntry.filter(kind="status").order_by("position").values_list("name", flat=True)
    assert told == ["CLAIMED", "LOCKED", "UNCLAIMED"]
    assert (await tester.ask("{ viewer { devices { totalCount } } }", kim))["viewer"]["devices"] == {"totalCount": 0}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"moveToGroup": "nowhere", "lockToVersion": 3}, "moveToGroup"),
        ({"moveToGroup": "refurbished", "lockToVersion": 9}, "lockToVersion"),
    ],
)
async def test_a_return_that_cannot_be_done_whole_is_not_done_at_all(tester: HouseTester, more: dict[str, Any], field: str) -> None:
    owner, _ = await readied(tester)
    before = await whatever_a_refusal_must_leave_alone()

    payload = await give_back(tester, owner, **more)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("NOT_FOUND", ["input", field])]
    after = await whatever_a_refusal_must_leave_alone()
    assert {table for table in before if before[table] != after[table]} <= {"sqlite_sequence"}


async def test_many_returns_and_locks_at_once_come_out_whole(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner, kim = await readied(tester)
    for _ in range(4):
        answers = await asyncio.gather(
            *(give_back(tester, owner, moveToGroup="refurbished", lockToVersion=3) for _ in range(3)),
            tester.do("lockAndFlash", "clientMutationId", owner, productId=LAMP, firmwareVersion=3, when="ON_RESET", deviceIds=[ID]),
        )
        await claim(tester, kim)

        assert sorted(codes(each) for each in answers) == [[], [], ["INVALID_INPUT"], ["INVALID_INPUT"]]
    assert (await AuditEntry.filter(action="device.unclaimed").count(), await owner_of()) == (4, "kim")
