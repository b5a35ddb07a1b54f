"""Rollouts under races and at random: the limit, one offer a device, and the halt hold whoever comes when."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest

from fleet.firmware import updating
from fleet.rollouts import advancing
from fleet.rollouts.judging import passes_threshold
from models.device import Device, Presence
from models.firmware import Update
from models.rollout import Rollout, RolloutDevice, RolloutStage
from models.sql import rows
from tests.house import HouseTester
from tests.rollout_house import Campaign


async def test_devices_that_ask_at_once_get_no_more_places_than_there_are(postgres_tester: HouseTester) -> None:
    campaign = await Campaign.begin(postgres_tester, 24)
    await campaign.start((100, 100, 60), maxInFlight=5)

    # Each asks twice at the same time, as if two server processes held a session of it.
    asked = [campaign.asks(row.device_id, at_hello=True) for row in campaign.fleet for _ in range(2)]
    offers = await asyncio.gather(*asked)

    assert len({offer.update_id for offer in offers if offer is not None}) == 5
    assert (await campaign.in_flight(), await Update.all().count()) == (5, 5)
    assert max(Counter(update.device_id for update in await Update.all()).values()) == 1  # type: ignore[attr-defined]  # a Tortoise column


async def test_offers_failures_and_sweeps_at_once_never_pass_limit_or_threshold(postgres_tester: HouseTester) -> None:
    """Every device fails; sweeps of two processes and all hellos run through each other: at most forgiven + limit are ever offered."""
    campaign = await Campaign.begin(postgres_tester, 30)
    await campaign.start((100, 10, 60), maxInFlight=4)
    targeted = (await RolloutStage.get()).targeted

    async def lives(device_id: str) -> None:
        for _ in range(4):
            if await campaign.asks(device_id, at_hello=True) is not None:
                await campaign.comes_back(device_id, 1)
                return
            await asyncio.sleep(random.uniform(0, 0.05))

    async def sweeps() -> None:
        for _ in range(12):
            await advancing.advance(campaign.rollout_id, campaign.product.id, campaign.now)
            await asyncio.sleep(0.02)

    await asyncio.gather(sweeps(), sweeps(), *(lives(row.device_id) for row in campaign.fleet))
    await campaign.look()

    touched = await RolloutDevice.all().count()
    assert await campaign.state() == "HALTED"
    assert targeted // 10 < touched <= targeted // 10 + 4
    assert [found["n"] for found in await rows("SELECT count(*) AS n FROM audit_entry WHERE action = 'rollout.halted'")] == [1]


async def test_pausing_and_aborting_while_devices_ask_leaves_nobody_offered_afterwards(postgres_tester: HouseTester) -> None:
    campaign = await Campaign.begin(postgres_tester, 16)
    for mutation in ("pauseRollout", "abortRollout"):
        if mutation == "pauseRollout":
            await campaign.start((100, 100, 60), maxInFlight=16)
        else:
            await campaign.steer("resumeRollout")
        asked = [campaign.asks(row.device_id) for row in campaign.fleet[:: 2 if mutation == "pauseRollout" else 1]]
        await asyncio.gather(*asked, campaign.steer(mutation))

        before = await Update.all().count()
        assert [await campaign.asks(row.device_id, at_hello=True) for row in campaign.fleet] == [None] * 16
        assert await Update.all().count() == before


async def test_of_people_who_approve_at_once_one_does(postgres_tester: HouseTester) -> None:
    campaign = await Campaign.begin(postgres_tester, 1)
    helpers = [await postgres_tester.member(campaign.owner, name, "DEVELOPER") for name in ("bob", "eve", "joe")]
    await campaign.start(needsApproval=True)

    answers = await asyncio.gather(*(campaign.steer("approveRollout", token) for token in helpers))

    assert sorted(len(answer["errors"]) for answer in answers) == [0, 1, 1]
    assert (await postgres_tester.audited()).count("rollout.approved") == 1


async def test_of_rollouts_started_at_once_one_is_open(postgres_tester: HouseTester) -> None:
    campaign = await Campaign.begin(postgres_tester, 1)

    answers = await asyncio.gather(*(campaign.start() for _ in range(6)))

    assert sorted(answer["errors"][0]["code"] if answer["errors"] else "" for answer in answers) == ["", *["ALREADY_EXISTS"] * 5]
    assert await Rollout.all().count() == 1


# ── at random ──
class _Story:
    """Whatever can happen to a rollout and its devices, one thing after the other, with the promises checked after each."""

    def __init__(self, campaign: Campaign, dice: random.Random) -> None:
        self.campaign, self.dice = campaign, dice
        self.attempts: Counter[str] = Counter()  # update and attempt: offered at most once each
        self.fleet = [row.device_id for row in campaign.fleet]

    async def step(self) -> None:
        campaign, dice = self.campaign, self.dice
        device_id = dice.choice(self.fleet)
        match dice.choice(
            ["look"] * 4 + ["ask"] * 5 + ["hello"] * 3 + ["install"] * 5 + ["fail", "drop", "lock", "unlock", "mark", "steer", "expire"]
        ):
            case "look":
                await campaign.look(after_s=dice.choice([1, 30, 61]))
                for told in await campaign.told():
                    await self.ask(told)
            case "ask":
                await self.ask(device_id, at_hello=dice.random() < 0.3, updates_enabled=dice.random() < 0.9)
            case "hello":
                await campaign.hello(device_id, dice.choice([1, 2]))
            case "install" if device_id in campaign.offers:
                await campaign.comes_back(device_id, dice.choice([1, 2, 2, 2, campaign.offers[device_id].version]))
            case "fail" if device_id in campaign.offers:
                offer = campaign.offers[device_id]
                await updating.reported(device_id, offer.update_id, "FAILED", None, "no", house=campaign.tester.house)
            case "drop":
                await updating.went_away([device_id])
                await Presence.filter(device_id=device_id).update(online=False)
            case "lock" | "unlock" as act:
                await Device.filter(device_id=device_id).update(desired_firmware_version=3 if act == "lock" else None)
            case "mark":
                await Device.filter(device_id=device_id).update(development=dice.random() < 0.5)
            case "steer":
                await campaign.steer(dice.choice(["pauseRollout", "resumeRollout", "resumeRollout", "resumeRollout"]))
            case "expire":
                await updating.expire_stale(campaign.tester.house, campaign.now + timedelta(minutes=31))

    async def ask(self, device_id: str, *, updates_enabled: bool = True, at_hello: bool = False) -> None:
        before = await Device.get(device_id=device_id)
        state = await self.campaign.state()
        offer = await self.campaign.asks(device_id, updates_enabled=updates_enabled, at_hello=at_hello)
        if offer is None:
            return
        update = await Update.get(id=int(offer.update_id))
        self.attempts[f"{offer.update_id}/{update.attempt}"] += 1
        assert not before.development, "a marked device is offered nothing"
        if before.desired_firmware_version is not None:
            assert offer.version == before.desired_firmware_version, "R13: a locked device never gets a release"
        elif offer.version == 2:
            assert (state, await self.campaign.state()) == ("RUNNING", "RUNNING"), "only a running rollout offers"
            unjudged = "SELECT 1 AS one FROM rollout_device AS tried JOIN device_update AS u ON u.id = tried.update_id"
            assert not await rows(f"{unjudged} WHERE tried.state = 'OFFERED' AND u.state IN ('FAILED', 'SUCCEEDED')"), "judged before"
        else:
            assert state == "HALTED", "only a halt takes anybody back"
            assert offer.version == (await RolloutDevice.get(device_id=device_id)).former_version

    async def check(self) -> None:
        rollout = await Rollout.get(id=self.campaign.rollout_id)
        assert await self.campaign.in_flight() <= rollout.max_in_flight
        assert set(self.attempts.values()) <= {1}
        offered = await RolloutDevice.all()
        for stage in await RolloutStage.all():
            of_stage = [row for row in offered if row.stage == stage.number]
            failed = [row for row in of_stage if row.failures and row.state != "SUCCEEDED"]
            past = passes_threshold(len(failed), max(stage.targeted, len(of_stage)), stage.max_failure_percent)
            assert not past or rollout.state in ("HALTED", "ROLLED_BACK"), "failures beyond the threshold are never left standing"
            assert stage.number <= rollout.stage or not of_stage, "nobody is offered it before their stage"


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_the_promises_hold(tester: HouseTester, seed: int) -> None:
    """R13: the whole state machine, in random order."""
    campaign, dice = await Campaign.begin(tester, 12), random.Random(seed)
    forgiven = (25, 90, 40)[seed]
    await campaign.start((60, forgiven, 30), (100, forgiven, 30), maxInFlight=2, rollBackOnHalt=seed != 1)
    story = _Story(campaign, dice)

    for _ in range(100):
        await story.step()
        await story.check()

    assert campaign.offered >= 2
