"""What waits for the next invoice is shown, and can be taken away before it."""

from tests.billing.sandbox.account import DAY, MONTHLY, Account, amounts, end_of


async def test_what_a_change_leaves_for_the_next_invoice_can_be_taken_away(anywhere: Account) -> None:
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer)
    await anywhere.move(payer.clock, anywhere.start + 10 * DAY)
    await anywhere.seats(subscription, 2)

    waiting = (await anywhere.v1.invoice_items.list_async({"customer": payer.id, "pending": True})).data
    for item in waiting:
        await anywhere.v1.invoice_items.delete_async(item["id"])
    left = (await anywhere.v1.invoice_items.list_async({"customer": payer.id, "pending": True})).data
    await anywhere.move(payer.clock, end_of(subscription) + 2 * 3600)

    assert [item["proration"] for item in waiting] == [True, True]
    assert {item["parent"]["subscription_details"]["subscription"] for item in waiting} == {subscription["id"]}
    assert left == []
    assert amounts((await anywhere.invoices(payer))[0]) == [2 * MONTHLY]
