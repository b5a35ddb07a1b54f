"""Whoever watches: billingChanged tells each move, and a team's streams end when its access does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from tests.payer import Payer, days, moment

FAILS = "pm_card_chargeCustomerFail"


async def watch(payer: Payer, operation: str, token: str) -> AsyncIterator[Any]:
    return await payer.schema.subscribe(operation, context_value=await payer.context(token))  # type: ignore[no-any-return]


async def test_each_move_is_pushed_to_whoever_watches(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    stream = await watch(payer, 'subscription { billingChanged(organization: "acme") { state failedAttempts } }', owner)
    first = await anext(stream)

    async def next_state() -> dict[str, Any]:
        return (await asyncio.wait_for(anext(stream), 60)).data["billingChanged"]  # type: ignore[no-any-return]

    ends = moment((await payer.billing(owner))["trialEndsAt"])
    await payer.advance(owner, ends + days(1))
    failed = await next_state()
    await payer.advance(owner, ends + days(16))
    locked = await next_state()

    assert first.data["billingChanged"] == {"state": "TRIALING", "failedAttempts": 0}
    assert failed == {"state": "PAST_DUE", "failedAttempts": 1}
    assert locked == {"state": "LOCKED", "failedAttempts": 4}


async def test_a_teams_stream_ends_within_five_seconds_and_names_the_reason(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    number = await payer.product(owner)
    stream = await watch(payer, f"subscription {{ deviceStatus(productId: {number}) {{ change }} }}", owner)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.1)

    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(16) + timedelta(hours=1))
    end = await asyncio.wait_for(waiting, 60)

    assert [error.original_error.code for error in end.errors] == ["ORGANIZATION_INACTIVE"]


async def test_a_machine_that_stands_for_customers_goes_on(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    number = await payer.product(owner)
    made = await payer.do(
        "createApiUser", "token", owner, organization="acme", name="server", scopes=["devices:read", "events:read", "products:write"]
    )
    stream = await watch(payer, f"subscription {{ events(productId: {number}) {{ cursor }} }}", made["token"])
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.1)

    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(16) + timedelta(hours=1))
    await asyncio.wait({waiting}, timeout=2.5)
    team_work = await payer.do("updateProduct", "product { id }", made["token"], productId=number, name="Other")

    assert not waiting.done()
    assert [error["code"] for error in team_work["errors"]] == ["ORGANIZATION_INACTIVE"]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
