"""Rollouts as they go by themselves: the halt before the next offer, the way back, and what is forced."""

from fleet.firmware import updating
from fleet.firmware.fact_finding import decisions
from models.device import Device, Presence
from models.firmware import ProductRelease
from tests.house import HouseTester
from tests.rollout_house import Campaign


async def test_failures_beyond_the_threshold_halt_it_before_the_next_offer(tester: HouseTester) -> None:
    """R10: of ten devices one may fail; the second halts, and nobody is offered anything after that, not even at a hello."""
    campaign = await Campaign.begin(tester, 10)
    await campaign.start((100, 10, 60), maxInFlight=2)

    await campaign.look()
    for device_id in await campaign.deliver():
        await campaign.comes_back(device_id, 1)

    assert await campaign.state() == "RUNNING", "nobody has looked since"
    untouched = [row.device_id for row in campaign.fleet if row.device_id not in campaign.offers]
    assert await campaign.asks(untouched[0], at_hello=True) is None
    shown = await campaign.shown()
    assert (shown["state"], shown["stages"][0]["state"], shown["stages"][0]["failed"]) == ("HALTED", "HALTED", 2)
    assert shown["haltedBecause"].startswith("2 of 12 devices failed, more than 10 % of stage 1. The last: The device came back")
    await campaign.look()
    assert await campaign.deliver() == []
    assert campaign.offered == 2 <= 1 + 2
    assert (await tester.audited())[-1] == "rollout.halted"


async def test_a_halt_takes_the_devices_back_to_what_each_of_them_ran(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 6)
    await Device.filter(device_id=campaign.fleet[0].device_id).update(firmware_version=3)
    await campaign.start((100, 20, 60), maxInFlight=6, rollBackOnHalt=True)
    await campaign.look()
    offered = await campaign.deliver()
    assert len(offered) == 6
    bad = offered[:3]
    for device_id in offered:
        await campaign.comes_back(device_id, 1 if device_id in bad else 2)

    await campaign.look()
    assert await campaign.state() == "HALTED"
    back = await campaign.deliver()
    former = {device_id: 3 if device_id == campaign.fleet[0].device_id else 1 for device_id in offered}
    assert {device_id: campaign.offers[device_id].version for device_id in back} == {
        device_id: former[device_id] for device_id in offered if device_id not in bad or former[device_id] != 1
    }
    for device_id in back:
        await campaign.comes_back(device_id, former[device_id])
    await campaign.look(after_s=40)

    assert await campaign.state() == "ROLLED_BACK"
    assert sorted(await campaign.running()) == [1, 1, 1, 1, 1, 3]
    assert (await tester.audited())[-1] == "rollout.rolled_back"


async def test_a_device_that_was_installing_while_it_halted_is_taken_back_however_late_it_boots(tester: HouseTester) -> None:
    """The rollout had ended after half a minute; a device whose server had died came back later than that, and stayed on the version."""
    campaign = await Campaign.begin(tester, 3)
    await campaign.start((100, 0, 60), maxInFlight=3, rollBackOnHalt=True)
    await campaign.look()
    bad, well, late = await campaign.deliver()
    for device_id in (bad, well, late):
        await updating.reported(device_id, campaign.offers[device_id].update_id, "INSTALLING", None, None, house=tester.house)
    await campaign.hello(bad, 1)
    await campaign.look()
    assert await campaign.state() == "HALTED"
    await campaign.deliver()
    await Presence.filter(device_id=late).update(online=False)

    await campaign.look(after_s=60)
    await campaign.look(after_s=20 * 60)
    assert await campaign.state() == "HALTED", "one of three was not heard of since"
    await campaign.hello(late, 2)
    offer = await campaign.asks(late, at_hello=True)

    assert offer is not None
    assert offer.version == 1
    await campaign.comes_back(late, 1)
    await campaign.look()
    assert await campaign.state() == "ROLLED_BACK"
    assert await campaign.running() == [1, 1, 1]


async def test_a_halted_one_without_that_policy_leaves_who_runs_the_version_where_they_are(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 4)
    await campaign.tester.do("releaseFirmware", "clientMutationId", campaign.owner, productId=campaign.product_id, version=1)
    await campaign.start((100, 0, 60), maxInFlight=2)
    await campaign.look()
    good, bad = await campaign.deliver()
    await campaign.comes_back(good, 2)
    await campaign.comes_back(bad, 1)
    await campaign.look()

    assert await campaign.state() == "HALTED"
    assert await campaign.asks(good, at_hello=True) is None
    found = await decisions([good, bad])
    assert [(str(found[each].rule), found[each].target) for each in (good, bad)] == [
        ("ROLLOUT", (campaign.product.id, 2)), ("PRODUCT_RELEASE", (campaign.product.id, 1))
    ]  # fmt: skip
    assert "ROLLOUT: yes, the rollout of version 2 was halted, and it runs that version." in found[good].because


async def test_one_that_forces_reaches_devices_that_put_updates_off_and_takes_them_back_too(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    await campaign.start(maxInFlight=2, rollBackOnHalt=True)
    await campaign.look()
    assert [await campaign.asks(device_id, updates_enabled=False) for device_id in await campaign.told()] == [None, None]
    await campaign.steer("abortRollout")

    await campaign.start(maxInFlight=2, rollBackOnHalt=True, forceUpdates=True)
    await campaign.look()
    offers = [await campaign.asks(row.device_id, updates_enabled=False) for row in campaign.fleet]
    assert [(offer.version, offer.forced) for offer in offers if offer is not None] == [(2, True)] * 2
    good, bad = (row.device_id for row in campaign.fleet)
    await campaign.comes_back(good, 2)
    await campaign.comes_back(bad, 1)
    await campaign.look()
    assert await campaign.state() == "HALTED"

    back = await campaign.asks(good, updates_enabled=False)
    assert back is not None
    assert (back.version, back.forced) == (1, True)


async def test_what_it_forced_stays_forced_as_a_release(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 1)
    await campaign.start(forceUpdates=True)
    await campaign.rounds()

    assert await campaign.state() == "FINISHED"
    assert await ProductRelease.all().values_list("firmware__version", "forces") == [(2, True)]
