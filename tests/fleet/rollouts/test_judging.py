"""How a device of a rollout fares: what is success, what is failure, and what is neither."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.rollouts.judging import Given, Seen, Verdict, judge, may_still_boot, passes_threshold
from models.device import Presence
from models.firmware import UpdateState
from models.rollout import RolloutDevice, TriedState
from models.transaction import transaction
from realtime import log
from realtime.log import NewEntry
from tests.house import HouseTester
from tests.rollout_house import Campaign

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def seen(state: TriedState, **facts: Any) -> Seen:
    """A device under way with which all is well."""
    well: dict[str, Any] = {
        "update_state": "SUCCEEDED", "update_error": None, "offered_at": NOW - 5 * MINUTE, "eligible": True, "runs_it": True, "running": 2,
        "online": True, "last_heard": NOW, "returns": 0, "watched_at": NOW - 2 * MINUTE, "healthy_for": MINUTE,
    }  # fmt: skip
    return Seen(state=state, **well | facts)


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({}, Verdict(TriedState.WATCHED)),
        ({"update_state": "OFFERED"}, None),
        ({"update_state": "DOWNLOADING", "offered_at": NOW - 50 * MINUTE}, None),
        ({"update_state": "PENDING", "online": False}, None),
        ({"update_state": "PENDING", "online": False, "offered_at": NOW - 30 * MINUTE}, Verdict(TriedState.LEFT)),
        ({"update_state": "FAILED", "update_error": "the hash is wrong"}, Verdict(TriedState.FAILED, "the hash is wrong")),
        ({"update_state": "BLOCKED", "update_error": "thrice"}, Verdict(TriedState.FAILED, "thrice")),
        ({"update_state": "CANCELED"}, Verdict(TriedState.LEFT)),
        ({"update_state": None}, Verdict(TriedState.LEFT)),
        ({"eligible": False}, Verdict(TriedState.LEFT)),
    ],
)
def test_an_offer_ends_with_its_update(facts: dict[str, Any], verdict: Verdict | None) -> None:
    assert judge(seen(TriedState.OFFERED, **facts), NOW) == verdict


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({}, Verdict(TriedState.SUCCEEDED)),
        ({"watched_at": NOW - MINUTE + timedelta(seconds=1)}, None),
        ({"returns": 5}, Verdict(TriedState.SUCCEEDED)),
        ({"returns": 6}, Verdict(TriedState.FAILED, "It connected anew 6 times while it was watched.")),
        ({"online": False, "last_heard": NOW - 29 * MINUTE}, None),
        ({"online": False, "last_heard": None}, Verdict(TriedState.FAILED, "It went away and did not come back within 30 minutes.")),
        ({"runs_it": False, "running": None}, Verdict(TriedState.FAILED, "It fell back to no version.")),
        ({"runs_it": False, "eligible": False}, Verdict(TriedState.LEFT)),
        ({"errors": 2, "errors_elsewhere": 2.0}, Verdict(TriedState.SUCCEEDED)),
        ({"errors": 2, "errors_elsewhere": 1.5}, Verdict(TriedState.FAILED, "It reported 2 errors, other devices 1.5 on average.")),
    ],
)
def test_success_is_to_stay_well_for_the_stage_s_time(facts: dict[str, Any], verdict: Verdict | None) -> None:
    assert judge(seen(TriedState.WATCHED, **facts), NOW) == verdict


def test_a_threshold_is_passed_by_more_than_it_forgives() -> None:
    assert [passes_threshold(failed, 100, 5) for failed in (0, 5, 6)] == [False, False, True]
    assert [passes_threshold(failed, 10, 0) for failed in (0, 1)] == [False, True]
    assert not passes_threshold(10, 10, 100)


# ── on stored devices ──
@pytest.mark.parametrize(
    ("what", "because"),
    [
        ("falls back", "It fell back to version 1."),
        ("restarts", "It connected anew 6 times"),
        ("goes away", "It went away"),
        ("errs", "It reported"),
    ],
)
async def test_coming_back_is_not_enough_it_has_to_stay_well(tester: HouseTester, what: str, because: str) -> None:
    campaign = await Campaign.begin(tester, 3)
    await campaign.start((100, 0, 600), maxInFlight=1)
    await campaign.look()
    [one] = await campaign.deliver()
    await campaign.comes_back(one, 2)
    await campaign.look()
    if what == "falls back":
        await campaign.hello(one, 1)
    elif what == "restarts":
        for _ in range(6):
            await campaign.hello(one, 2)
    elif what == "goes away":
        await Presence.filter(device_id=one).update(online=False, last_heard=campaign.now)
        await campaign.look(after_s=1700)
        assert await campaign.state() == "RUNNING"
    else:
        await publish(campaign, one, "error/heater")
    await campaign.look(after_s=601)

    row = await RolloutDevice.get(device_id=one)
    assert (row.state, await campaign.state()) == ("FAILED", "HALTED")
    assert (row.error or "").startswith(because)


async def publish(campaign: Campaign, device_id: str, name: str) -> None:
    async with transaction():
        await log.append(NewEntry(campaign.product_id, "event", name, campaign.now, device_id))


async def test_errors_that_all_devices_have_are_not_the_version_s(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 3)
    await campaign.start((100, 0, 600), maxInFlight=1)
    await campaign.look()
    [one] = await campaign.deliver()
    await campaign.comes_back(one, 2)
    await campaign.look()
    for row in campaign.fleet:
        await publish(campaign, row.device_id, "Error")

    await campaign.look(after_s=601)

    assert (await RolloutDevice.get(device_id=one)).state == "SUCCEEDED"


async def test_one_that_falls_back_after_its_watch_has_failed_after_all(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 3)
    await campaign.start((100, 0, 60), maxInFlight=1)
    await campaign.look()
    [one] = await campaign.deliver()
    await campaign.comes_back(one, 2)
    await campaign.look()
    await campaign.look(after_s=61)
    assert (await RolloutDevice.get(device_id=one)).state == "SUCCEEDED"

    await campaign.hello(one, 1)

    assert await campaign.asks(one, at_hello=True) is None
    row = await RolloutDevice.get(device_id=one)
    assert (row.state, row.failures, row.error) == ("FAILED", 1, "It fell back after its watch.")
    assert await campaign.state() == "HALTED"


@pytest.mark.parametrize(
    ("state", "progress", "heard_s", "since", "may"),
    [
        ("CANCELED", 40, 0, MINUTE, True),  # the socket was gone before the word reached it
        ("CANCELED", 100, 29, 29 * MINUTE, True),
        ("CANCELED", 100, 29, 30 * MINUTE, False),
        ("CANCELED", 100, 30, MINUTE, False),
        ("FAILED", 100, 0, MINUTE, True),  # it came back before it restarted
        ("FAILED", 99, 0, MINUTE, False),  # it never had the whole of it
    ],
)
def test_a_device_that_was_installing_may_boot_the_version_until_it_is_heard_again(
    state: str, progress: int, heard_s: float, since: timedelta, may: bool
) -> None:
    given = Given(UpdateState(state), progress, NOW, NOW, NOW + timedelta(seconds=heard_s))

    assert may_still_boot(given, NOW + since) is may


def test_a_device_that_has_said_hello_since_has_booted_what_it_says() -> None:
    assert not may_still_boot(Given(UpdateState.CANCELED, 100, NOW, NOW + timedelta(seconds=1), NOW), NOW + MINUTE)
