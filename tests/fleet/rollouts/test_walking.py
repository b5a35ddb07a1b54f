"""The walk along a rollout's devices: in pieces of any size everybody is reached, and nobody is passed over."""

from datetime import timedelta

import pytest

from fleet.rollouts import advancing, walking
from models.rollout import Rollout, RolloutDevice
from models.sql import database_time
from tests.house import HouseTester
from tests.rollout_house import Campaign


@pytest.fixture(params=[1, 3])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Devices of one look; the fleet is longer."""
    monkeypatch.setattr(walking, "PIECE", request.param)
    monkeypatch.setattr(walking, "WALK_S", 0)
    return int(request.param)


async def test_in_pieces_everybody_is_reached_and_the_stages_are_passed_in_turn(tester: HouseTester, piece: int) -> None:
    campaign = await Campaign.begin(tester, 8)
    await campaign.start((50, 0, 60), (100, 0, 60), maxInFlight=10)

    await campaign.rounds(60)

    assert await campaign.state() == "FINISHED"
    assert await campaign.running() == [2] * 8
    assert (await campaign.shown())["stages"][1]["succeeded"] == await RolloutDevice.filter(stage=1).count()


async def test_a_look_takes_no_more_than_its_piece(tester: HouseTester, piece: int) -> None:
    campaign = await Campaign.begin(tester, 8)
    await campaign.start((100, 0, 60), maxInFlight=10)

    await campaign.look()

    assert len(await campaign.told()) == piece


async def test_who_does_not_answer_is_met_again_in_every_walk_and_waited_for(tester: HouseTester, piece: int) -> None:
    campaign = await Campaign.begin(tester, 4)
    deaf = campaign.fleet[0].device_id  # the first of every walk
    await campaign.start((100, 0, 60), maxInFlight=10)

    told = 0
    for _ in range(24):
        await campaign.look(after_s=61)
        for device_id in await campaign.told():
            told += device_id == deaf
            if device_id != deaf and await campaign.asks(device_id) is not None:
                await campaign.comes_back(device_id, 2)

    assert await campaign.running() == [1, 2, 2, 2]
    assert (await campaign.state(), told > 2) == ("RUNNING", True)
    await campaign.rounds(24)
    assert await campaign.state() == "FINISHED"
    assert await campaign.running() == [2] * 4


async def test_a_group_s_devices_are_walked_through_by_themselves(tester: HouseTester, piece: int) -> None:
    campaign = await Campaign.begin(tester, 9)
    everybody = [row.device_id for row in campaign.fleet]
    inside = [everybody[number] for number in (1, 4, 5, 8)]
    hall = (await tester.do("createDeviceGroup", "group { id }", campaign.owner, productId=campaign.product_id, name="hall"))["group"]
    desk = await tester.do("createDeviceGroup", "group { id }", campaign.owner, productId=campaign.product_id, name="desk", parent="hall")
    for group, some in ((hall, inside[:3]), (desk["group"], inside[2:])):
        await tester.do("addDevicesToGroup", "group { id }", campaign.owner, groupId=group["id"], deviceIds=some)
    await campaign.start((100, 0, 60), group="hall", maxInFlight=10)

    await campaign.look()
    seen = set(await campaign.told())
    for _ in range(len(inside)):
        await campaign.look()
        seen |= set(await campaign.told())

    assert seen == set(inside)
    assert (await campaign.shown())["stages"][0]["targeted"] == 4


async def test_after_a_look_that_took_long_the_next_one_waits(tester: HouseTester, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = await Campaign.begin(tester, 2)
    await campaign.start((100, 0, 60))
    monkeypatch.setattr(advancing, "REST", 1e6)

    looked = [await advancing.advance_all(), await advancing.advance_all()]

    rollout = await Rollout.get()
    assert looked == [1, 0]
    assert rollout.look_after is not None
    assert rollout.look_after - await database_time() > timedelta(seconds=advancing.LOOK_EVERY_S)
