"""A second person for a release: approval of a rollout, a product that demands it, and an owner who breaks the glass."""

from datetime import timedelta
from typing import Any

from models.firmware import ProductRelease
from models.operations import AuditEntry
from models.product import Product
from tests.house import HouseTester
from tests.rollout_house import Campaign

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
