"""How billing is set up: what refuses to start, and that a mode is not changed under those who pay."""

import dataclasses
from pathlib import Path

import pytest

from auth.sealing import Sealer
from billing.stripe_client import StripeGateway
from errors import ProviderUnreachable
from fleet.billing.tills import open_till
from models.billing import BillingAccount, BillingPlan
from settings import Settings, SettingsRefused, from_environment
from tests.house import HouseTester, open_house
from tests.payer import Payer, open_payer

LIVE = {"BILLING": "stripe", "STRIPE_API_KEY": "rk_live_x", "STRIPE_WEBHOOK_SECRETS": "whsec_a, whsec_b"}


def read(tmp_path: Path, **variables: str) -> Settings:
    return from_environment({"FLOTILLA_DATA_DIR": str(tmp_path), "SECRET_KEY": "k" * 32, **variables})


def test_unset_it_is_the_sandbox_and_asks_for_no_card(tmp_path: Path) -> None:
    settings = read(tmp_path)

    assert (settings.billing, settings.billing_require_card) == ("sandbox", False)


def test_with_stripe_a_card_is_asked_for_and_every_secret_is_taken(tmp_path: Path) -> None:
    settings = read(tmp_path, PRODUCTION="on", **LIVE)

    assert (settings.billing, settings.billing_require_card) == ("stripe", True)
    assert settings.stripe_webhook_secrets == ("whsec_a", "whsec_b")
    assert (settings.billing_max_retries, settings.billing_trial_days) == (3, 30)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PRODUCTION": "on"}, "PRODUCTION=on needs BILLING"),
        ({"PRODUCTION": "on", "BILLING": "sandbox"}, "trying things out"),
        ({"BILLING": "paypal"}, "must be stripe, sandbox or off"),
        ({"BILLING": "stripe"}, "needs STRIPE_API_KEY"),
        ({**LIVE, "STRIPE_WEBHOOK_SECRETS": " , "}, "needs STRIPE_API_KEY and STRIPE_WEBHOOK_SECRETS"),
        ({**LIVE, "STRIPE_API_KEY": "pk_live_x"}, "begins with sk_ or rk_"),
        ({**LIVE, "STRIPE_API_KEY": "sk_test_x", "PRODUCTION": "on"}, "is a test key"),
        ({"BILLING": "sandbox", "STRIPE_API_KEY": "sk_live_x"}, "is a live key"),
        ({"BILLING": "off", "STRIPE_API_KEY": "rk_live_x"}, "is a live key"),
        ({"BILLING_MAX_RETRIES": "-1"}, "0 or more"),
        ({"BILLING_TRIAL_DAYS": "731"}, "from 0 to 730"),
    ],
)
def test_what_is_unsafe_refuses_to_start_and_repeats_no_key(tmp_path: Path, variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsRefused, match=sentence) as refused:
        read(tmp_path, **variables)

    assert "_live_" not in str(refused.value)
    assert "whsec_" not in str(refused.value).replace("whsec_…", "")


def test_keys_are_not_shown_with_the_settings(tmp_path: Path) -> None:
    shown = repr(read(tmp_path, **LIVE))

    assert "rk_live_x" not in shown
    assert "whsec_a" not in shown


async def test_an_organization_that_pays_in_one_mode_is_not_taken_into_another(migrated_sqlite: Settings) -> None:
    async with open_payer(migrated_sqlite) as payer:
        await payer.found("pm_card_visa")

    with pytest.raises(SettingsRefused, match="BILLING=sandbox, but BILLING=off"):
        async with open_house(dataclasses.replace(migrated_sqlite, billing="off"), process="p2"):
            pass


async def test_organizations_of_before_billing_are_exempt_in_every_mode(migrated_sqlite: Settings) -> None:
    async with open_house(migrated_sqlite) as house:
        tester = HouseTester(house)
        owner = await tester.owner()
        exempt = await tester.ask(
            '{ server { billingMode } organization(slug: "acme") { billing { state mode seats card { brand } } } }', owner
        )

    async with open_payer(migrated_sqlite, process="p2") as payer:
        billing = await payer.billing(
            owner, "state mode seats preview(seats: 5) { total } upcomingInvoice { total } invoices { totalCount }"
        )
        cancel = await payer.do("cancelSubscription", "billing { state }", owner, organization="acme")
        card = await payer.do("createCardSetup", "setup { id }", owner, organization="acme", flow="HOSTED")
        member = await payer.member(owner, "bob", "ADMIN")

    assert exempt == {
        "server": {"billingMode": "OFF"},
        "organization": {"billing": {"state": "EXEMPT", "mode": "OFF", "seats": 1, "card": None}},
    }
    assert billing == {
        "state": "EXEMPT",
        "mode": "OFF",
        "seats": 1,
        "preview": {"total": 0},
        "upcomingInvoice": None,
        "invoices": {"totalCount": 0},
    }
    assert [error["code"] for answer in (cancel, card) for error in answer["errors"]] == ["NOT_CANCELABLE", "INVALID_INPUT"]
    assert member


async def test_an_exempt_organization_can_be_adopted_and_begins_its_trial(migrated_sqlite: Settings) -> None:
    async with open_house(migrated_sqlite) as house:
        owner = await HouseTester(house).owner()

    async with open_payer(migrated_sqlite, process="p2") as payer:
        adopted = [await payer.adopt(), await payer.adopt()]
        billing = await payer.billing(owner)

    assert adopted == [["acme"], []]
    assert (billing["state"], billing["mode"]) == ("TRIALING", "SANDBOX")


async def test_while_the_provider_is_away_nothing_is_founded(sqlite_payer: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    payer = sqlite_payer
    token = await payer.person()
    await payer.hang_up(monkeypatch)

    with pytest.raises(Exception, match="does not answer") as refused:
        await payer.do("createOrganization", "organization { slug }", token, name="Acme")

    (error,) = refused.value.errors  # type: ignore[attr-defined]  # GraphQLFailed
    assert isinstance(error.original_error, ProviderUnreachable)
    assert error.original_error.retry_after == 30
    assert await BillingAccount.exclude(customer_id=None).count() == 0


async def test_the_gateway_finds_the_prices_it_made(sqlite_payer: Payer) -> None:
    assert sqlite_payer.house.till is not None
    first = await sqlite_payer.house.till.gateway.prices()
    other = StripeGateway("sk_test_x", app=sqlite_payer.house.till.desk.sandbox, base_url="http://box")  # type: ignore[union-attr]

    assert await other.prices() == first
    assert set(first) == set(BillingPlan)
    await other.close()


async def test_with_billing_off_there_is_no_till(migrated_sqlite: Settings) -> None:
    async with open_house(migrated_sqlite) as house, open_till(migrated_sqlite, Sealer("k" * 32), deliver=_nobody) as till:
        assert till is None
        assert house.till is None


async def _nobody(url: str, body: bytes, headers: dict[str, str]) -> int:
    return 0
