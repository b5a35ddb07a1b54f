"""A second person: approval of a rollout, products and groups that demand it for releases and locks, and an owner who breaks the glass."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from models.device import Device, DeviceGroup
from models.firmware import GroupRelease, ProductRelease
from models.operations import AuditEntry
from models.product import Product
from tests.house import HouseTester
from tests.rollout_house import Campaign
from tests.stored import whatever_a_refusal_must_leave_alone

REASON = "The heater of version 1 does not switch off."


def codes(payload: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(error["code"], error["path"] and error["path"][-1]) for error in payload["errors"]]


async def test_somebody_else_than_the_author_approves(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    bob = await tester.member(campaign.owner, "bob", "DEVELOPER")
    waiting = await campaign.start(needsApproval=True)
    before = await tester.audited()
    await campaign.look()

    assert waiting["rollout"]["state"] == "AWAITING_APPROVAL"
    assert await campaign.deliver() == []
    refused = await campaign.steer("approveRollout")
    assert [(error["code"], error["reason"]) for error in refused["errors"]] == [("FORBIDDEN", "AUTHOR")]
    assert (await campaign.state(), await tester.audited()) == ("AWAITING_APPROVAL", before)
    approved = await campaign.steer("approveRollout", bob)
    assert (approved["rollout"]["state"], approved["rollout"]["approvedBy"]) == ("RUNNING", {"email": "bob@example.com"})
    assert codes(await campaign.steer("approveRollout", bob)) == [("INVALID_INPUT", "id")]
    await campaign.look()
    assert len(await campaign.deliver()) == 2


async def test_what_nobody_approves_within_a_week_ends(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 1)
    await campaign.start(needsApproval=True)

    await campaign.look(after_s=timedelta(days=6, hours=23).total_seconds())
    assert await campaign.state() == "AWAITING_APPROVAL"
    await campaign.look(after_s=3601)

    shown = await campaign.shown()
    assert (shown["state"], shown["haltedBecause"]) == ("ABORTED", "Nobody approved it within seven days.")
    assert (await tester.audited())[-1] == "rollout.expired"


async def test_a_product_may_demand_a_second_person_for_every_release(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    bob = await tester.member(campaign.owner, "bob", "DEVELOPER")
    demanded = await tester.do(
        "updateProduct", "product { releasesNeedApproval }", bob, productId=campaign.product_id, releasesNeedApproval=True
    )  # fmt: skip
    assert demanded["product"] == {"releasesNeedApproval": True}
    before = await tester.audited()

    released = await tester.do("releaseFirmware", "clientMutationId", campaign.owner, productId=campaign.product_id, version=2)

    assert [(error["code"], error["reason"]) for error in released["errors"]] == [("FORBIDDEN", "APPROVAL_REQUIRED")]
    assert (await ProductRelease.all().count(), await tester.audited()) == (0, before)
    assert (await campaign.start(token=bob))["rollout"]["state"] == "AWAITING_APPROVAL", "though nobody asked for it"
    assert [error["reason"] for error in (await campaign.steer("approveRollout", bob))["errors"]] == ["AUTHOR"]
    assert (await campaign.steer("approveRollout"))["rollout"]["state"] == "RUNNING"


async def test_only_an_owner_takes_that_back_and_the_managers_are_told(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 0)
    eva = await tester.member(campaign.owner, "eva", "ADMIN")
    await tester.do("updateProduct", "clientMutationId", eva, productId=campaign.product_id, releasesNeedApproval=True)
    before, letters = await tester.audited(), len(await tester.letters())

    refused = await tester.do(
        "updateProduct", "clientMutationId", eva, productId=campaign.product_id, releasesNeedApproval=False, name="New"
    )

    assert [error["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    product = await Product.get(number=campaign.product_id)
    assert (product.releases_need_approval, product.name, await tester.audited()) == (True, "Lamp", before)
    assert len(await tester.letters()) == letters
    await tester.do("updateProduct", "clientMutationId", campaign.owner, productId=campaign.product_id, releasesNeedApproval=False)
    assert not (await Product.get(number=campaign.product_id)).releases_need_approval
    told = (await tester.letters())[letters:]
    assert [(letter.to, letter.subject) for letter in told] == [
        (f"{name}@example.com", "Releases of Lamp need no approval any more") for name in ("ann", "eva")
    ]
    assert (await tester.audited())[len(before) :] == ["product.updated"]


async def test_an_owner_breaks_the_glass_for_their_own_rollout_and_it_shows(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 2)
    bob = await tester.member(campaign.owner, "bob", "DEVELOPER")
    await campaign.start(needsApproval=True)
    letters = len(await tester.letters())
    shown = "rollout { state glassBrokenBecause approvedBy { email } }"

    blank = await tester.do("approveRollout", shown, campaign.owner, id=campaign.global_id, breakGlass=" ")
    others = await tester.do("approveRollout", shown, bob, id=campaign.global_id, breakGlass=REASON)
    assert codes(blank) == codes(others) == [("INVALID_INPUT", "breakGlass")]
    assert (await campaign.state(), len(await tester.letters())) == ("AWAITING_APPROVAL", letters)
    broken = await tester.do("approveRollout", shown, campaign.owner, id=campaign.global_id, breakGlass=REASON)

    assert broken["rollout"] == {"state": "RUNNING", "glassBrokenBecause": REASON, "approvedBy": {"email": "ann@example.com"}}
    assert (await tester.audited())[-1] == "rollout.glass_broken"
    assert (await AuditEntry.all().order_by("-id").first()).detail["because"] == REASON  # type: ignore[union-attr]  # there is one
    (letter,) = (await tester.letters())[letters:]
    assert (letter.to, letter.subject) == ("ann@example.com", "Firmware 2 of Lamp goes out without a second person")
    assert REASON in letter.text


async def test_no_author_below_owner_breaks_the_glass(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 1)
    eva = await tester.member(campaign.owner, "eva", "ADMIN")
    await campaign.start(token=eva, needsApproval=True)
    before = await tester.audited()

    refused = await tester.do("approveRollout", "clientMutationId", eva, id=campaign.global_id, breakGlass=REASON)

    assert [error["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    assert (await campaign.state(), await tester.audited()) == ("AWAITING_APPROVAL", before)


async def test_the_managers_are_told_that_a_rollout_waits(tester: HouseTester) -> None:
    campaign = await Campaign.begin(tester, 1)
    await tester.member(campaign.owner, "eva", "ADMIN")
    bob = await tester.member(campaign.owner, "bob", "DEVELOPER")
    letters = len(await tester.letters())

    await campaign.start(token=bob, needsApproval=True)

    told = (await tester.letters())[letters:]
    subject = "Firmware 2 of Lamp waits for a second person"
    assert [(letter.to, letter.subject) for letter in told] == [(f"{name}@example.com", subject) for name in ("ann", "eva")]
    assert all("user:bob@example.com wants to bring firmware 2 to Lamp" in letter.text for letter in told)


# ── groups that demand it ──
class Plant:
    """A campaign among groups: `plant` holds `floor` and `office`, `floor` holds `line`, and `lab` shares a device with `line`.

    The devices 0 to 3 are in line, line, office and lab; device 1 is in the lab too, and 4 is in no group.
    """

    def __init__(self, tester: HouseTester, campaign: Campaign, groups: dict[str, str]) -> None:
        self.tester, self.campaign, self.groups = tester, campaign, groups

    @classmethod
    async def begin(cls, tester: HouseTester) -> "Plant":
        campaign, groups = await Campaign.begin(tester, 5), {}
        for name, parent in (("plant", None), ("floor", "plant"), ("office", "plant"), ("line", "floor"), ("lab", None)):
            given = {"productId": campaign.product_id, "name": name, "parent": parent}
            groups[name] = (await tester.do("createDeviceGroup", "group { id }", campaign.owner, **given))["group"]["id"]
        plant = cls(tester, campaign, groups)
        for name, numbers in (("line", (0, 1)), ("office", (2,)), ("lab", (1, 3))):
            ids = [campaign.fleet[number].device_id for number in numbers]
            await tester.do("addDevicesToGroup", "clientMutationId", campaign.owner, groupId=groups[name], deviceIds=ids)
        return plant

    async def demand(self, group: str, token: str | None = None, **demands: Any) -> dict[str, Any]:
        answer = "group { releasesNeedApproval locksWithoutApproval }"
        given = demands or {"releasesNeedApproval": True}
        return await self.tester.do("updateDeviceGroup", answer, token or self.campaign.owner, id=self.groups[group], **given)

    async def needs_approval(self, group: str | None) -> bool:
        query = "query ($p: Int!, $group: String) { planRelease(productId: $p, version: 2, group: $group) { needsApproval } }"
        found = await self.tester.ask(query, self.campaign.owner, p=self.campaign.product_id, group=group)
        return bool(found["planRelease"]["needsApproval"])

    async def release(self, group: str | None) -> list[tuple[str, str | None]]:
        given = {"productId": self.campaign.product_id, "version": 2, "group": group}
        payload = await self.tester.do("releaseFirmware", "clientMutationId", self.campaign.owner, **given)
        return [(error["code"], error["reason"]) for error in payload["errors"]]

    async def lock(self, *numbers: int, version: int = 2, token: str | None = None, **more: Any) -> list[tuple[str, str | None]]:
        ids = [self.campaign.fleet[number].device_id for number in numbers]
        given = {"productId": self.campaign.product_id, "firmwareVersion": version, "when": "ON_RESET", "deviceIds": ids, **more}
        payload = await self.tester.do("lockAndFlash", "clientMutationId", token or self.campaign.owner, **given)
        return [(error["code"], error["reason"]) for error in payload["errors"]]

    async def locked(self) -> list[int | None]:
        found = await Device.filter(device_id__in=[row.device_id for row in self.campaign.fleet]).order_by("device_id")
        return [row.desired_firmware_version for row in found]


REFUSED = [("FORBIDDEN", "APPROVAL_REQUIRED")]


async def test_a_group_demands_it_of_every_release_that_reaches_its_devices(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    assert not any([await plant.needs_approval(group) for group in (None, *plant.groups)])
    await plant.demand("floor")

    asked = {group: await plant.needs_approval(group) for group in (None, *plant.groups)}
    stored = await whatever_a_refusal_must_leave_alone()
    refused = [await plant.release(group) for group, needed in asked.items() if needed]

    assert asked == {None: True, "plant": True, "floor": True, "line": True, "lab": True, "office": False}
    assert refused == [REFUSED] * 5
    assert await whatever_a_refusal_must_leave_alone() == stored
    assert await plant.release("office") == []
    assert (await GroupRelease.all().values_list("group__path", flat=True), await ProductRelease.all().count()) == (["plant/office"], 0)


async def test_a_group_that_shares_no_device_any_more_is_free_again(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    await plant.demand("floor")
    assert await plant.release("lab") == REFUSED
    shared = {"groupId": plant.groups["lab"], "deviceIds": [plant.campaign.fleet[1].device_id]}
    await tester.do("removeDevicesFromGroup", "clientMutationId", plant.campaign.owner, **shared)

    assert await plant.release("lab") == []


async def test_a_rollout_waits_where_a_group_demands_it_and_nowhere_else(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    await plant.demand("floor")

    states = {}
    for group in ("office", "lab", None):
        states[group] = (await plant.campaign.start(group=group))["rollout"]["state"]
        await plant.campaign.steer("abortRollout")

    assert states == {"office": "RUNNING", "lab": "AWAITING_APPROVAL", None: "AWAITING_APPROVAL"}


async def test_no_group_takes_the_product_s_demand_away(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    owner, product_id = plant.campaign.owner, plant.campaign.product_id
    await tester.do("updateProduct", "clientMutationId", owner, productId=product_id, releasesNeedApproval=True)

    await plant.demand("lab", releasesNeedApproval=False)

    assert await plant.needs_approval("lab")
    assert await plant.release("lab") == REFUSED
    assert (await plant.campaign.start(group="lab"))["rollout"]["state"] == "AWAITING_APPROVAL"


async def test_a_group_s_demand_is_taken_back_by_an_owner_alone_and_the_managers_are_told(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    eva = await tester.member(plant.campaign.owner, "eva", "ADMIN")
    demanded = await plant.demand("office", eva, releasesNeedApproval=True, locksWithoutApproval=3)
    less = await plant.demand("office", eva, locksWithoutApproval=2)
    assert (demanded["group"]["locksWithoutApproval"], less["group"]["locksWithoutApproval"]) == (3, 2), "more is demanded by a developer"
    stored, letters, entries = await whatever_a_refusal_must_leave_alone(), len(await tester.letters()), await tester.audited()

    refused = [
        await plant.demand("office", eva, releasesNeedApproval=False),
        await plant.demand("office", eva, locksWithoutApproval=3),
        await tester.do("deleteDeviceGroup", "clientMutationId", eva, id=plant.groups["office"]),
    ]

    assert [error["code"] for payload in refused for error in payload["errors"]] == ["FORBIDDEN"] * 3
    assert await whatever_a_refusal_must_leave_alone() == stored
    await plant.demand("office", locksWithoutApproval=3)
    await plant.demand("office", locksWithoutApproval=3)
    await plant.demand("office", releasesNeedApproval=False)
    await plant.demand("office", eva, releasesNeedApproval=True)
    await tester.do("deleteDeviceGroup", "clientMutationId", plant.campaign.owner, id=plant.groups["office"])
    assert (await tester.audited())[len(entries) :] == ["group.updated"] * 3 + ["group.deleted"]
    more, over = (
        "More devices of Lamp, group plant/office can be locked without approval",
        "Releases of Lamp, group plant/office need no approval any more",
    )
    assert [(letter.to, letter.subject) for letter in (await tester.letters())[letters:]] == [
        (f"{name}@example.com", subject) for subject in (more, over, over) for name in ("ann", "eva")
    ]


async def test_whoever_is_held_inside_a_group_cannot_hold_up_releases_to_the_product(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    bob = await tester.member(plant.campaign.owner, "bob", "DEVELOPER")
    query = '{ organization(slug: "acme") { members { id user { email } } } }'
    members = (await tester.ask(query, plant.campaign.owner))["organization"]["members"]
    (seat,) = [each["id"] for each in members if each["user"]["email"] == "bob@example.com"]
    await tester.do("grantGroupAccess", "clientMutationId", plant.campaign.owner, groupId=plant.groups["line"], memberId=seat)

    refused = await plant.demand("line", bob)

    assert [(error["code"], error["reason"]) for error in refused["errors"]] == [("FORBIDDEN", "INSIDE_GROUPS")]
    assert not await DeviceGroup.filter(releases_need_approval=True).exists()


# ── locks ──
async def test_where_it_is_demanded_one_person_locks_a_few_devices_to_a_version(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    demands = {"productId": plant.campaign.product_id, "releasesNeedApproval": True, "locksWithoutApproval": 2}
    changed = await tester.do("updateProduct", "product { locksWithoutApproval }", plant.campaign.owner, **demands)
    assert changed["product"] == {"locksWithoutApproval": 2}
    assert await plant.lock(0) == await plant.lock(0, 1) == []
    stored = await whatever_a_refusal_must_leave_alone()

    assert await plant.lock(2) == REFUSED, "those locked before count"
    assert await plant.lock(0, 1, 2, 3, version=3) == REFUSED, "all of it, or nothing"

    assert await whatever_a_refusal_must_leave_alone() == stored
    assert await plant.lock(1, 0) == [], "they are locked to it"
    assert await plant.lock(2, 3, version=3) == []
    assert await plant.locked() == [2, 2, 3, 3, None]
    await tester.do("unlockDevices", "clientMutationId", plant.campaign.owner, productId=plant.campaign.product_id, group="line")
    assert await plant.lock(3, 4) == []


async def test_a_group_that_demands_it_has_no_test_devices_unless_it_says_so(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    await plant.demand("floor")
    await plant.demand("plant", releasesNeedApproval=True, locksWithoutApproval=3)

    assert await plant.lock(0) == await plant.lock(2, 3, 0) == REFUSED
    assert await plant.lock(2, 3, 4) == []
    await plant.demand("floor", locksWithoutApproval=1)
    assert await plant.lock(0) == []
    assert await plant.lock(1) == REFUSED, "it may have one, though two of the plant's three are left"
    assert await plant.locked() == [2, None, 2, 2, 2]


@pytest.mark.parametrize("number", [-1, 10_000_001])
async def test_a_number_of_locks_that_cannot_be_is_refused(tester: HouseTester, number: int) -> None:
    plant = await Plant.begin(tester)
    before = await whatever_a_refusal_must_leave_alone()

    of_group = await plant.demand("lab", locksWithoutApproval=number)
    given = {"productId": plant.campaign.product_id, "locksWithoutApproval": number}
    of_product = await tester.do("updateProduct", "clientMutationId", plant.campaign.owner, **given)

    assert codes(of_group) == codes(of_product) == [("INVALID_INPUT", "locksWithoutApproval")]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_an_owner_breaks_the_glass_for_a_lock_and_it_shows(tester: HouseTester) -> None:
    plant = await Plant.begin(tester)
    eva = await tester.member(plant.campaign.owner, "eva", "ADMIN")
    await plant.demand("floor")
    stored, letters = await whatever_a_refusal_must_leave_alone(), len(await tester.letters())

    assert await plant.lock(0, 1, token=eva, breakGlass=REASON) == [("FORBIDDEN", "OWNER")]
    assert await plant.lock(0, 1, breakGlass=" ") == await plant.lock(2, breakGlass=REASON) == [("INVALID_INPUT", None)]
    assert await whatever_a_refusal_must_leave_alone() == stored
    assert await plant.lock(0, 1, 2, breakGlass=REASON) == []

    entry = await AuditEntry.all().order_by("-id").first()
    assert entry is not None
    assert (entry.action, entry.detail["because"], len(entry.detail["devices"])) == ("lock.glass_broken", REASON, 3)
    told = (await tester.letters())[letters:]
    subject = "3 devices of Lamp are locked without a second person"
    assert [(letter.to, letter.subject) for letter in told] == [(f"{name}@example.com", subject) for name in ("ann", "eva")]
    assert REASON in told[0].text
    assert await plant.locked() == [2, 2, 2, None, None]


async def test_of_locks_at_once_no_more_go_through_than_one_person_may(postgres_tester: HouseTester) -> None:
    plant = await Plant.begin(postgres_tester)
    await postgres_tester.do(
        "updateProduct",
        "clientMutationId",
        plant.campaign.owner,
        productId=plant.campaign.product_id,
        releasesNeedApproval=True,
        locksWithoutApproval=2,
    )

    answers = await asyncio.gather(*(plant.lock(number) for number in range(5)))

    assert sorted(map(len, answers)) == [0, 0, 1, 1, 1]
    assert sorted(await plant.locked(), key=str) == [2, 2, None, None, None]
