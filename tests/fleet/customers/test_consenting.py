"""What customers let apps do, as the team sees it and takes it back; and what is left of tokens that are long over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from errors import Unauthenticated
from fleet.customers import consenting
from models.account import Token
from models.customer import Customer
from models.oauth import OAuthConsent
from tests.customers import lamp, sign_up
from tests.house import GraphQLFailed, HouseTester
from tests.oauth_house import KIM, Porch, a_client, porch

CONSENTS = """query ($id: ID!) { node(id: $id) { ... on Customer {
    consents { client { clientId name ownScopes } scopes } } } }"""


async def consents(tester: HouseTester, app: Porch, token: str | None = None) -> Any:
    return (await tester.ask(CONSENTS, token or app.more["owner"], id=app.more["customer"]))["node"]["consents"]


async def end(tester: HouseTester, app: Porch, client_id: str, token: str | None = None) -> list[str]:
    given = {"customerId": app.more["customer"], "clientId": client_id}
    payload = await tester.do("endConsent", "customer { username }", token or app.more["owner"], **given)
    return [error["code"] for error in payload["errors"]]


async def is_good(tester: HouseTester, token: str) -> bool:
    try:
        await tester.context(token)
    except Unauthenticated:
        return False
    return True


async def test_the_team_lists_what_a_customer_lets_apps_do_and_takes_one_back(tester: HouseTester) -> None:
    async with porch(tester) as app:
        first = await app.tokens()
        second = (await app.redeem(await app.code(scope="events:read"))).json()
        page = Porch(app.http, *await a_client(tester, app.more["owner"], app.more["product_id"], name="Page", public=True), app.more)
        other = await page.tokens()
        assert await consents(tester, app) == [
            {"client": {"clientId": page.client_id, "name": "Page", "ownScopes": []}, "scopes": ["devices:read", "devices:call"]},
            {
                "client": {"clientId": app.client_id, "name": "Porch", "ownScopes": []},
                "scopes": ["devices:read", "devices:call", "events:read"],
            },
        ]

        assert await end(tester, app, app.client_id) == []

        assert [await is_good(tester, each["access_token"]) for each in (first, second, other)] == [False, False, True]
        assert (await app.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await page.refresh(other["refresh_token"])).status_code == 200
        assert [each["client"]["name"] for each in await consents(tester, app)] == ["Page"]
        assert (await tester.audited())[-1] == "oauth_consent.taken_back"
        given = await OAuthConsent.all().order_by("id").values()
        assert await end(tester, app, app.client_id) == ["NOT_FOUND"]
        assert await end(tester, app, "no-such-app") == ["NOT_FOUND"]
        assert await end(tester, app, page.client_id, await tester.member(app.more["owner"], "vic", "SUPPORT")) == ["FORBIDDEN"]
        assert await OAuthConsent.all().order_by("id").values() == given


async def test_an_app_is_not_told_of_others(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()

        with pytest.raises(GraphQLFailed) as refused:
            await consents(tester, app, pair["access_token"])

        assert refused.value.codes == ["NOT_FOUND"]


async def test_expired_tokens_of_customers_go_and_when_they_were_used_stays(tester: HouseTester) -> None:
    await lamp(tester)
    kim, now = await sign_up(tester, KIM), datetime.now(UTC)
    await tester.ask("{ viewer { kind } }", kim)
    used = now - timedelta(days=40)
    await Token.filter(customer_id__not_isnull=True).update(last_used_at=used, expires_at=now - timedelta(hours=23))
    people = await Token.filter(customer_id=None).count()

    await consenting.forget_old(now)
    assert await Token.filter(customer_id__not_isnull=True).count() == 1, "whoever uses it again is told that it has expired"
    await consenting.forget_old(now + timedelta(hours=2))

    assert (await Token.filter(customer_id__not_isnull=True).count(), await Token.all().count()) == (0, people)
    assert (await Customer.get()).last_seen_at == used
    owner = (await tester.do("logIn", "token", email="ann@example.com", password="a correct horse for the tests"))["token"]
    found = await tester.ask("{ product(productId: 1000) { customers { nodes { lastActiveAt } } } }", owner)
    assert datetime.fromisoformat(found["product"]["customers"]["nodes"][0]["lastActiveAt"]) - used < timedelta(milliseconds=1)
