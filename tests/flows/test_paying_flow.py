"""Paying through a real server, as a browser and a program see it: the hosted page, mails as files, seats, a lock, a printed invoice."""

import dataclasses
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from settings import Settings
from tests.clients import Client, Refused
from tests.connected import until
from tests.processes import ServerProcess

PASSWORD = "a sentence is a good password"
BILLING = "state seats failedAttempts trialEndsAt accessUntil card { last4 }"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_card_given_on_the_hosted_page_pays_fails_and_pays_again(
    request: pytest.FixtureRequest, kind: str, start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    mails = tmp_path / "mails"
    settings: Settings = request.getfixturevalue(f"{kind}_settings")
    settings = dataclasses.replace(settings, secret_key="k" * 32, mail_dir=mails, rate_limits=False)
    server = start_server(settings)
    async with Client(server.url) as ann:
        ann.token = (await ann.do("signUp", "token", email="ann@example.com", password=PASSWORD, name="Ann"))["token"]
        made = (await ann.do("createCardSetup", "setup { id hostedUrl }", flow="HOSTED"))["setup"]
        page = await ann.http.get(made["hostedUrl"])
        sent = await ann.http.post(made["hostedUrl"], data={"card": "pm_card_chargeCustomerFail"})
        await ann.do("createOrganization", "organization { slug }", name="Acme", plan="TEAM_MONTHLY", cardSetupId=made["id"])

        async def advance(to: datetime) -> dict[str, object]:
            answer = await ann.do("advanceSandboxClock", f"billing {{ {BILLING} }}", organization="acme", to=to.isoformat())
            billing: dict[str, object] = answer["billing"]
            return billing

        begun = (await ann.ask(f'{{ organization(slug: "acme") {{ billing {{ {BILLING} }} }} }}'))["organization"]["billing"]
        ends = datetime.fromisoformat(begun["trialEndsAt"])
        failing = await advance(ends + timedelta(hours=2))
        # The trial's last days, and the first failure: the answer waits for both, but on a machine that stands still not for ever.
        await until(lambda: len(list(mails.glob("*.eml"))) == 2)
        locked = await advance(ends + timedelta(days=16))
        with pytest.raises(Refused, match="ORGANIZATION_INACTIVE"):
            await ann.ask('{ organization(slug: "acme") { members { id } } }')
        again = (await ann.do("createCardSetup", "setup { id }", flow="HOSTED", organization="acme"))["setup"]["id"]
        await ann.do("completeSandboxCardSetup", "setup { id }", setupId=again, paymentMethod="pm_card_visa")
        back = (await ann.do("reactivateSubscription", f"billing {{ {BILLING} }}", organization="acme", setupId=again))["billing"]
        lists = await ann.ask('{ organization(slug: "acme") { billing { invoices { nodes { number hostedUrl status } } } } }')
        printed = await ann.http.get(lists["organization"]["billing"]["invoices"]["nodes"][0]["hostedUrl"])

    assert (page.status_code, sent.status_code) == (200, 303)
    assert "pm_card_visa" in page.text
    assert (begun["state"], begun["card"]) == ("TRIALING", {"last4": "0341"})
    assert (failing["state"], failing["failedAttempts"]) == ("PAST_DUE", 1)
    assert locked["state"] == "LOCKED"
    assert (back["state"], back["card"]) == ("ACTIVE", {"last4": "4242"})
    assert printed.status_code == 200
    assert "$49.00" in printed.text
    assert re.search(r"<h1>.*Invoice|Invoice ", printed.text)
    assert [name for name in ("whsec_", "_secret_", "Traceback") if name in server.log()] == []
