"""Rollouts: their terms and stages, the limit in flight, how people steer them, and their end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.firmware import damage
from fleet.firmware.fact_finding import decisions
from fleet.rollouts import shares, steering
from models.device import Device, GroupMembership
from models.firmware import Firmware, GroupRelease, ProductRelease, Update
from models.organization import Member
from models.rollout import Rollout, RolloutDevice
from tests.firmware_house import device
from tests.house import HouseTester
from tests.rollout_house import Campaign
from tests.stored import whatever_a_refusal_must_leave_alone


def codes(payload: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(error["code"], error["path"] and error["path"][-1]) for error in payload["errors"]]


async def test_a_rollout_brings_its_version_to_everybody_and_becomes_the_release(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 10)

    started = await campaign.start((30, 0, 60), (100, 0, 60))
    assert started["errors"] == []
    assert started["rollout"]["state"] == "RUNNING"
    assert [stage["state"] for stage in started["rollout"]["stages"]] == ["RUNNING", "DRAFT"]
    assert sum(stage["targeted"] for stage in started["rollout"]["stages"]) == 12, "ten of the fleet, and those that prove 1 and 3"
    await campaign.rounds()

    shown = await campaign.shown()
    assert shown["state"] == "FINISHED"
    assert [stage["state"] for stage in shown["stages"]] == ["FINISHED", "FINISHED"]
    assert [stage["failed"] + stage["inFlight"] for stage in shown["stages"]] == [0, 0]
    assert sum(stage["succeeded"] for stage in shown["stages"]) == 10
    assert await campaign.running() == [2] * 10
    assert campaign.offered == 10
    assert (await ProductRelease.get().select_related("firmware")).firmware.version == 2, "whoever was away gets it at the next hello"
    assert (await tester.audited())[-3:] == ["rollout.started", "rollout.advanced", "rollout.finished"]


async def test_nobody_beyond_the_limit_is_ever_in_flight_and_watched_ones_count(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 8)
    await campaign.start((100, 0, 60), maxInFlight=3)

    await campaign.look()
    first = await campaign.deliver()
    assert (len(first), await campaign.in_flight()) == (3, 3)
    for device_id in first:
        await campaign.comes_back(device_id, 2)
    await campaign.look()
    assert await campaign.deliver() == [], "they came back, and are watched"
    assert (await campaign.shown())["stages"][0]["inFlight"] == 3
    for row in campaign.fleet:
        assert row.device_id in first or await campaign.asks(row.device_id, at_hello=True) is None
    await campaign.look(after_s=61)
    assert len(await campaign.deliver()) == 3
    assert await Update.all().count() == 6, "who waits for a place has no update yet"


async def test_a_stage_holds_who_its_hash_says_and_late_ones_fall_into_it(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 12)
    await campaign.start((40, 100, 60), (100, 0, 60), maxInFlight=100)
    inside = {row.device_id for row in campaign.fleet if shares.place(campaign.rollout_id, row.device_id) < shares.reach(40)}
    late = [await device(campaign.product_id, number, version=1, online=True) for number in range(100, 112)]
    inside |= {row.device_id for row in late if shares.place(campaign.rollout_id, row.device_id) < shares.reach(40)}

    await campaign.look()
    offered = set(await campaign.deliver())

    assert offered == inside
    assert 0 < len(inside) < 24
    assert {row.stage for row in await RolloutDevice.all()} == {0}
    found = await decisions([row.device_id for row in [*campaign.fleet, *late]])
    assert {device_id for device_id, decided in found.items() if decided.rule == "ROLLOUT"} == inside


async def test_one_with_a_plan_that_no_longer_holds_is_not_started(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    query = "query ($p: Int!) { planRelease(productId: $p, version: 2) { token } }"
    token = (await tester.ask(query, campaign.owner, p=campaign.product_id))["planRelease"]["token"]
    await device(campaign.product_id, 7, version=1)
    before = await whatever_a_refusal_must_leave_alone()

    refused = await campaign.start(planToken=token)

    assert codes(refused) == [("PLAN_STALE", "planToken")]
    assert await whatever_a_refusal_must_leave_alone() == before
    token = (await tester.ask(query, campaign.owner, p=campaign.product_id))["planRelease"]["token"]
    assert (await campaign.start(planToken=token))["rollout"]["state"] == "RUNNING"


async def test_it_is_paused_and_resumed_and_aborted_by_people(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 4)
    await campaign.start(maxInFlight=2)
    await campaign.look()
    first, second = await campaign.deliver()
    await campaign.comes_back(first, 2)

    paused = await campaign.steer("pauseRollout")
    assert (paused["rollout"]["state"], paused["rollout"]["stages"][0]["state"]) == ("PAUSED", "PAUSED")
    await campaign.look()
    assert await campaign.deliver() == []
    for row in campaign.fleet:
        assert await campaign.asks(row.device_id, at_hello=True) is None
    assert (await Update.get(device_id=second)).state == "OFFERED", "what is under way may end"
    assert codes(await campaign.steer("pauseRollout")) == [("INVALID_INPUT", "id")]
    assert (await campaign.steer("resumeRollout"))["rollout"]["state"] == "RUNNING"
    assert codes(await campaign.steer("resumeRollout")) == [("INVALID_INPUT", "id")]
    aborted = await campaign.steer("abortRollout")
    assert aborted["rollout"]["state"] == "ABORTED"
    assert codes(await campaign.steer("abortRollout")) == [("INVALID_INPUT", "id")]

    await campaign.look()
    assert await campaign.deliver() == []
    assert (await Update.get(device_id=second)).state == "CANCELED"
    assert (await tester.audited())[-4:] == ["rollout.started", "rollout.paused", "rollout.resumed", "rollout.aborted"]
    assert await ProductRelease.all().count() == 0


CAREFUL = {"maxFailurePercent": 0, "healthyForSeconds": 0}


async def test_a_stage_holds_as_many_devices_as_it_says(tester: HouseTester) -> None:
    """Those with the lowest places: whoever joins later falls where their hash says, into a stage that is past too."""
    campaign = await Campaign.begin(tester, 28)  # and two that offline prove 1 and 3
    sizes: list[dict[str, int]] = [{"devices": 3}, {"devices": 10}, {"percent": 1}, {"percent": 100}]
    stages = [{**size, "maxFailurePercent": 0, "healthyForSeconds": 0} for size in sizes]
    payload = await tester.do(
        "startRollout", "rollout { id stages { percent devices targeted } }", campaign.owner,
        productId=campaign.product_id, version=2, maxInFlight=30, stages=stages,
    )  # fmt: skip
    campaign.rollout_id = (await Rollout.get()).id
    places = sorted(shares.place(campaign.rollout_id, row.device_id) for row in await Device.exclude(firmware_version=2))

    shown = payload["rollout"]["stages"]
    assert [(each["devices"], each["targeted"]) for each in shown] == [(3, 3), (10, 7), (None, 0), (None, 20)]
    assert [each["percent"] for each in shown] == [int(places[3], 16) * 100 >> 32, int(places[10], 16) * 100 >> 32, 1, 100]
    await campaign.look()
    assert {shares.place(campaign.rollout_id, each) for each in await campaign.deliver()} <= set(places[:3])


async def test_terms_that_cannot_be_are_refused(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 1)
    before = await tester.audited()

    for stages, terms, field in (
        ([], {}, "stages"),
        ([(50, 0, 0)], {}, "stages"),
        ([(50, 0, 0), (50, 0, 0), (100, 0, 0)], {}, "stages"),
        ([(0, 0, 0), (100, 0, 0)], {}, "stages"),
        ([(100, 101, 0)], {}, "maxFailurePercent"),
        ([(100, 0, -1)], {}, "healthyForSeconds"),
        ([{"devices": 5, **CAREFUL}], {}, "stages"),
        ([{"devices": 5, **CAREFUL}, {"devices": 5, **CAREFUL}, (100, 0, 0)], {}, "stages"),
        ([{"devices": 0, **CAREFUL}, (100, 0, 0)], {}, "stages"),
        ([{"devices": 5, "percent": 100, **CAREFUL}], {}, "stages"),
        ([CAREFUL, (100, 0, 0)], {}, "stages"),
        ([(100, 0, 0)], {"maxInFlight": 0}, "maxInFlight"),
        ([(100, 0, 0)], {"jitterSeconds": 86_401}, "jitterSeconds"),
        ([(100, 0, 0)], {"window": {"from": "25:00", "to": "04:00", "timeZone": "UTC"}}, "from"),
        ([(100, 0, 0)], {"window": {"from": "04:00", "to": "04:00", "timeZone": "UTC"}}, "to"),
        ([(100, 0, 0)], {"window": {"from": "03:00", "to": "04:00", "timeZone": "Atlantis/Capital"}}, "timeZone"),
    ):
        names = ("percent", "maxFailurePercent", "healthyForSeconds")
        named = [each if isinstance(each, dict) else dict(zip(names, each, strict=True)) for each in stages]
        given: dict[str, Any] = {"productId": campaign.product_id, "version": 2, "maxInFlight": 1, **terms}
        payload = await tester.do("startRollout", "rollout { id }", campaign.owner, stages=named, **given)
        assert codes(payload) == [("INVALID_INPUT", field)]

    assert (await Rollout.all().count(), await tester.audited()) == (0, before)


async def test_an_unproven_version_is_rolled_out_to_nobody_and_one_rollout_is_open_at_a_time(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 1)
    await Device.filter(firmware_version=3).update(state="QUARANTINED")

    unproven = await campaign.start(version=3)
    assert codes(unproven) == [("FIRMWARE_NOT_PROVEN", "version")]
    assert await Rollout.all().count() == 0
    assert (await campaign.start())["errors"] == []
    assert codes(await campaign.start()) == [("ALREADY_EXISTS", "productId")]
    assert await Rollout.all().count() == 1


async def test_a_rollout_to_a_group_is_for_nobody_else_and_ends_with_it(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 4)
    group = await tester.do("createDeviceGroup", "group { id }", campaign.owner, productId=campaign.product_id, name="emea")
    ids = [row.device_id for row in campaign.fleet[:2]]
    await tester.do("addDevicesToGroup", "group { id }", campaign.owner, groupId=group["group"]["id"], deviceIds=ids)
    started = await campaign.start((100, 0, 60), group="emea", maxInFlight=10)
    assert started["rollout"]["stages"][0]["targeted"] == 2

    await campaign.look()
    assert sorted(await campaign.deliver()) == ids
    for device_id in ids:
        await campaign.comes_back(device_id, 2)
    await campaign.look()
    await campaign.look(after_s=61)
    assert await campaign.state() == "FINISHED"
    assert (await GroupRelease.all().count(), await ProductRelease.all().count()) == (1, 0)

    await campaign.start((100, 0, 60), group="emea", version=1, maxInFlight=10)
    await GroupMembership.all().delete()
    await tester.do("deleteDeviceGroup", "clientMutationId", campaign.owner, id=group["group"]["id"])
    await campaign.look()
    assert await campaign.deliver() == []
    assert (await campaign.shown())["haltedBecause"] == "Its group was deleted."


async def test_a_release_that_a_person_made_meanwhile_stays(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    await campaign.start((100, 0, 0), maxInFlight=5)
    await tester.do("releaseFirmware", "clientMutationId", campaign.owner, productId=campaign.product_id, version=3)

    await campaign.rounds()

    assert await campaign.state() == "FINISHED"
    assert (await ProductRelease.get().select_related("firmware")).firmware.version == 3


async def test_a_locked_or_marked_device_is_left_out_and_leaves_when_it_becomes_one(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 4)
    locked, marked, later, free = (row.device_id for row in campaign.fleet)
    await Device.filter(device_id=locked).update(desired_firmware_version=1)
    await Device.filter(device_id=marked).update(development=True)
    started = await campaign.start((100, 0, 60), maxInFlight=5)
    assert started["rollout"]["stages"][0]["targeted"] == 4, "two of the fleet, and those that prove 1 and 3"

    await campaign.look()
    assert sorted(await campaign.deliver()) == [later, free]
    await tester.do(
        "lockAndFlash", "clientMutationId", campaign.owner, productId=campaign.product_id, firmwareVersion=3, when="NOW", deviceIds=[later]
    )  # fmt: skip
    await campaign.look()

    assert (await RolloutDevice.get(device_id=later)).state == "LEFT"
    assert (await campaign.shown())["stages"][0]["inFlight"] == 1


async def test_nothing_begins_outside_of_the_window(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    soon = datetime.now(UTC) + timedelta(hours=2)
    window = {"from": f"{soon:%H:%M}", "to": f"{soon + timedelta(hours=1):%H:%M}", "timeZone": "UTC"}
    await campaign.start(window=window, maxInFlight=5)

    await campaign.look()
    assert await campaign.deliver() == []
    assert await campaign.asks(campaign.fleet[0].device_id, at_hello=True) is None
    await campaign.look(after_s=2 * 3600)

    assert len(await campaign.told()) == 2, "its sessions are told to look once it is open"


async def test_jitter_spreads_a_stage_over_its_time(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 30)
    await campaign.start(jitterSeconds=1000, maxInFlight=100)
    turns = {row.device_id: shares.turn(campaign.rollout_id, row.device_id) for row in campaign.fleet}

    await campaign.look(after_s=500)
    half = set(await campaign.told())
    begun = (await Rollout.get(id=campaign.rollout_id)).started_at
    assert begun is not None

    share = shares.below((campaign.now - begun).total_seconds() / 1000)
    assert half == {device_id for device_id, turn in turns.items() if turn < share}
    assert 5 < len(half) < 25
    await campaign.look(after_s=501)
    assert len(await campaign.told()) == 30


async def test_a_damaged_file_halts_its_rollouts_and_starts_none(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    await campaign.start()
    firmware = await Firmware.get(version=2)

    before = len(await tester.letters())
    for _ in range(2):
        await damage.damaged(firmware, house=tester.house)

    assert [(letter.to, letter.subject) for letter in (await tester.letters())[before:]] == [
        ("ann@example.com", "Firmware 2 of Lamp is damaged")
    ]  # fmt: skip
    shown = await campaign.shown()
    assert (shown["state"], shown["haltedBecause"]) == ("HALTED", "The stored file is damaged.")
    assert (await tester.audited())[-2:] == ["rollout.halted", "firmware.damaged"]
    await campaign.look()
    assert await campaign.deliver() == []
    await campaign.steer("abortRollout")
    assert codes(await campaign.start()) == [("BINARY_INVALID", "version")]


async def test_a_stranger_sees_and_steers_nothing(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 1)
    await campaign.start()
    eve = await tester.owner("eve", "Other")

    assert codes(await campaign.steer("abortRollout", eve)) == [("NOT_FOUND", "id")]
    assert await tester.ask("query ($id: ID!) { node(id: $id) { id } }", eve, id=campaign.global_id) == {"node": None}
    assert await campaign.state() == "RUNNING"


PROGRESS = "subscription ($id: ID!) { rolloutProgress(rolloutId: $id) { state stages { state inFlight succeeded failed } } }"


async def test_its_progress_is_followed_by_those_who_may_see_it_until_it_ends(tester: HouseTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "LOOK_EVERY_S", 0.01)
    campaign = await Campaign.begin(tester, 1)
    await campaign.start((100, 0, 60), maxInFlight=1)
    eve = await tester.owner("eve", "Other")

    async def follow(token: str) -> Any:
        return await tester.schema.subscribe(
            PROGRESS, variable_values={"id": campaign.global_id}, context_value=await tester.context(token)
        )

    refused = await anext(await follow(eve))
    assert getattr(refused.errors[0].original_error, "code", None) == "NOT_FOUND"
    stream, seen = await follow(campaign.owner), []
    seen.append((await anext(stream)).data["rolloutProgress"])
    await campaign.look()
    await campaign.deliver()
    seen.append((await anext(stream)).data["rolloutProgress"])
    await campaign.comes_back(campaign.fleet[0].device_id, 2)
    await campaign.look()
    await campaign.look(after_s=61)
    seen += [each.data["rolloutProgress"] async for each in stream]

    shown = [(each["state"], each["stages"][0]["inFlight"], each["stages"][0]["succeeded"]) for each in seen]
    assert shown[:2] == [("RUNNING", 0, 0), ("RUNNING", 1, 0)]
    assert shown[-1] == ("FINISHED", 0, 1)


async def test_whoever_leaves_the_team_hears_nothing_further(tester: HouseTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "LOOK_EVERY_S", 0.01)
    campaign = await Campaign.begin(tester, 1)
    bob = await tester.member(campaign.owner, "bob", "VIEWER")
    await campaign.start()
    stream = await tester.schema.subscribe(PROGRESS, variable_values={"id": campaign.global_id}, context_value=await tester.context(bob))
    assert (await anext(stream)).data["rolloutProgress"]["state"] == "RUNNING"

    await Member.filter(user__email="bob@example.com").delete()
    await campaign.steer("pauseRollout")

    told = await anext(stream)
    assert (told.data, getattr(told.errors[0].original_error, "code", None)) == (None, "NOT_FOUND")
