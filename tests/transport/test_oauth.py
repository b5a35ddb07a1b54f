"""The endpoints of OAuth, in good order: what apps get, what it is worth, and how it ends."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from authlib.oauth2 import rfc8414, rfc9207

from fleet.customers import consenting
from models.account import Token
from models.customer import Customer
from models.oauth import OAuthCode, OAuthConsent, OAuthRefreshToken
from models.operations import AuditEntry
from models.product import Product
from tests.connected import a_device, subscribed
from tests.house import GraphQLFailed, HouseTester
from tests.oauth_house import KIM, REDIRECT, a_client, authorization, porch, redirected
from tests.stored import everything

VIEWER = "{ viewer { kind scopes devices { nodes { deviceId } } } }"


async def codes_of(tester: HouseTester, token: str) -> list[str | None]:
    """With which a token is refused; empty when it is good."""
    try:
        await tester.ask("{ viewer { kind } }", token)
    except Exception as refused:
        return [getattr(refused, "code", None)]
    return []


# ── codes and tokens ──
async def test_a_code_becomes_tokens_that_are_the_customers(tester: HouseTester) -> None:
    async with porch(tester) as app:
        lamp, kim = await Product.get(number=app.more["product_id"]), await Customer.get(username=KIM)
        device = await a_device(lamp, owner=kim, state="ACTIVE")
        await a_device(lamp, "55ff6d04498b49aabbccdd02", state="ACTIVE")

        pair = await app.tokens()
        found = await tester.ask(VIEWER, pair["access_token"])

    own = {"nodes": [{"deviceId": device.device_id}]}
    assert found == {"viewer": {"kind": "CUSTOMER", "scopes": ["devices:read", "devices:call"], "devices": own}}
    assert sorted(pair) == ["access_token", "expires_in", "refresh_token", "scope", "token_type"]
    assert (pair["token_type"], pair["expires_in"], pair["scope"]) == ("Bearer", 3600, "devices:read devices:call")


async def test_an_app_that_names_no_scope_gets_those_it_is_registered_with(tester: HouseTester) -> None:
    async with porch(tester, scopes=["events:read", "devices:read"]) as app:
        answered = await app.redeem(await app.code(scope=None))

    assert answered.json()["scope"] == "devices:read events:read"


async def test_a_public_client_needs_no_secret_but_its_verifier(tester: HouseTester) -> None:
    async with porch(tester, public=True) as app:
        assert app.secret is None

        assert "access_token" in await app.tokens()


async def test_answers_are_never_stored_on_their_way(tester: HouseTester) -> None:
    async with porch(tester) as app:
        answered = await app.redeem(await app.code())

    assert {name: answered.headers[name] for name in ("cache-control", "pragma")} == {"cache-control": "no-store", "pragma": "no-cache"}


async def test_a_refresh_token_is_exchanged_for_the_next_pair(tester: HouseTester) -> None:
    async with porch(tester) as app:
        first = await app.tokens()

        second = (await app.refresh(first["refresh_token"])).json()

        assert len({first["access_token"], second["access_token"], first["refresh_token"], second["refresh_token"]}) == 4
        assert await codes_of(tester, second["access_token"]) == []
        assert (await app.refresh(second["refresh_token"])).status_code == 200


async def test_a_refreshed_token_may_have_fewer_scopes_and_the_next_all_again(tester: HouseTester) -> None:
    async with porch(tester) as app:
        narrow = (await app.refresh((await app.tokens())["refresh_token"], scope="devices:read")).json()
        whole = (await app.refresh(narrow["refresh_token"])).json()

        assert (narrow["scope"], whole["scope"]) == ("devices:read", "devices:read devices:call")
        assert (await tester.ask("{ viewer { scopes } }", narrow["access_token"]))["viewer"] == {"scopes": ["devices:read"]}


async def test_nothing_that_could_be_replayed_is_stored(tester: HouseTester) -> None:
    async with porch(tester) as app:
        code = await app.code()
        pair = (await app.redeem(code)).json()

        dump = str(await everything())

    assert [text for text in (code, pair["access_token"], pair["refresh_token"], app.secret) if text in dump] == []


# ── an app without a customer ──
async def test_client_credentials_give_what_the_app_was_registered_with_on_its_product_alone(tester: HouseTester) -> None:
    async with porch(tester, ownScopes=["devices:read", "events:read"]) as app:
        lamp, fan = await Product.get(number=app.more["product_id"]), await tester.product(app.more["owner"], "Fan")
        device = await a_device(lamp, state="ACTIVE")
        await a_device(await Product.get(number=fan), "55ff6d04498b49aabbccdd02", state="ACTIVE")

        whole = (await app.exchange(grant_type="client_credentials")).json()
        narrow = (await app.exchange(grant_type="client_credentials", scope="events:read")).json()

        assert "refresh_token" not in whole
        own = {"nodes": [{"deviceId": device.device_id}]}
        found = await tester.ask(VIEWER, whole["access_token"])
        assert found == {"viewer": {"kind": "API_USER", "scopes": ["devices:read", "events:read"], "devices": own}}
        with pytest.raises(GraphQLFailed) as refused:
            await tester.ask(VIEWER, narrow["access_token"])
        assert refused.value.codes == ["FORBIDDEN"]


# ── their end ──
async def test_a_revoked_access_token_ends_alone(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()

        answered = await app.post("/oauth/revoke", token=pair["access_token"], token_type_hint="refresh_token")

        assert (answered.status_code, answered.json()) == (200, {})
        assert await codes_of(tester, pair["access_token"]) == ["UNAUTHENTICATED"]
        assert (await app.refresh(pair["refresh_token"])).status_code == 200


async def test_a_revoked_refresh_token_ends_the_family(tester: HouseTester) -> None:
    async with porch(tester) as app:
        first = await app.tokens()
        second = (await app.refresh(first["refresh_token"])).json()

        assert (await app.post("/oauth/revoke", token=second["refresh_token"])).status_code == 200

        assert await codes_of(tester, first["access_token"]) == await codes_of(tester, second["access_token"]) == ["UNAUTHENTICATED"]
        assert (await app.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"


async def test_revoking_what_is_unknown_is_done_already(tester: HouseTester) -> None:
    async with porch(tester) as app:
        assert (await app.post("/oauth/revoke", token="whatever")).status_code == 200


async def test_tokens_of_a_deleted_client_end_at_once_and_so_do_streams(tester: HouseTester) -> None:
    async with porch(tester, ownScopes=["devices:read"]) as app:
        lamp, kim = await Product.get(number=app.more["product_id"]), await Customer.get(username=KIM)
        device = await a_device(lamp, owner=kim, state="ACTIVE")
        pair, own = await app.tokens(), (await app.exchange(grant_type="client_credentials")).json()
        follow = "subscription ($id: DeviceID!) { deviceStatus(deviceId: $id) { change } }"
        async with subscribed(tester, follow, pair["access_token"], id=device.device_id) as stream:
            assert await stream.next() == {"change": "SNAPSHOT"}

            await tester.do("deleteOAuthClient", "clientMutationId", app.more["owner"], clientId=app.client_id)

            with pytest.raises(GraphQLFailed) as ended:
                await stream.next()
        assert ended.value.codes == ["UNAUTHENTICATED"]
        assert await codes_of(tester, pair["access_token"]) == await codes_of(tester, own["access_token"]) == ["UNAUTHENTICATED"]
        assert (await app.refresh(pair["refresh_token"])).json()["error"] == "invalid_client"
    assert [await model.all().count() for model in (OAuthConsent, OAuthCode, OAuthRefreshToken)] == [0, 0, 0]


async def test_tokens_of_a_deleted_customer_end_at_once(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()

        await tester.do("deleteCustomer", "clientMutationId", app.more["owner"], id=app.more["customer"])

        assert await codes_of(tester, pair["access_token"]) == ["UNAUTHENTICATED"]
        assert (await app.refresh(pair["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_product_that_logs_in_another_way_by_now_takes_no_token_of_this_one(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()
        answers = [{"key": "auth_method", "answer": "SIMPLE"}]

        await tester.do("answerQuestions", "clientMutationId", app.more["owner"], productId=app.more["product_id"], answers=answers)

        assert await codes_of(tester, pair["access_token"]) == ["WRONG_AUTH_METHOD"]
        assert (await app.refresh(pair["refresh_token"])).json()["error"] == "unauthorized_client"


async def test_each_registered_address_is_good_for_its_own_codes_alone(tester: HouseTester) -> None:
    second = "https://porch.example/too"
    async with porch(tester, redirectUris=[second]) as app:
        page = await app.at_consent(redirect_uri=second)
        where, found = redirected(await app.press(page, "allow"))
        elsewhere = await app.redeem(found["code"])
        assert (where, elsewhere.json()["error"]) == (second, "invalid_grant")

        pair = await app.redeem(found["code"], redirect_uri=second)
        asked = authorization(app.client_id, redirect_uri=f"{second}/")

        assert pair.status_code == 200
        assert (await app.http.get("/oauth/authorize", params=asked)).status_code == 400


async def test_a_new_secret_ends_the_old_one_and_no_consent(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()
        made = await tester.do("rotateOAuthClientSecret", "clientSecret", app.more["owner"], clientId=app.client_id)

        old = await app.refresh(pair["refresh_token"])
        app.secret = made["clientSecret"]
        new = await app.refresh(pair["refresh_token"])

        assert (old.status_code, old.json()["error"], new.status_code) == (401, "invalid_client", 200)


async def test_consents_end_with_the_password_they_were_given_under(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()
        await tester.do("requestCustomerPasswordReset", "clientMutationId", productId=app.more["product_id"], username=KIM)
        token = re.findall(r"flr_\w+", (await tester.letters())[-1].text)[0]

        answered = await tester.do("resetCustomerPassword", "clientMutationId", resetToken=token, new="another sentence of good length")

        assert answered["errors"] == []
        assert await codes_of(tester, pair["access_token"]) == ["UNAUTHENTICATED"]
        assert (await app.refresh(pair["refresh_token"])).json()["error"] == "invalid_grant"


async def test_what_has_been_over_for_a_day_is_forgotten_and_nothing_else(tester: HouseTester) -> None:
    async with porch(tester) as app:
        await app.tokens()
        now = datetime.now(UTC)

        async def left(at: datetime) -> list[int]:
            await consenting.forget_old(at)
            counts = [await model.all().count() for model in (OAuthCode, OAuthRefreshToken, OAuthConsent)]
            return [await Token.filter(auth_method="OAUTH").count(), *counts]

        assert await left(now + timedelta(hours=23)) == [1, 1, 1, 1]
        assert await left(now + timedelta(hours=26)) == [0, 0, 1, 1]
        assert await left(now + timedelta(days=32)) == [0, 0, 0, 0]


# ── looking at them ──
async def test_a_client_may_examine_its_own_tokens(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()

        access = (await app.post("/oauth/introspect", token=pair["access_token"])).json()
        refresh = (await app.post("/oauth/introspect", token=pair["refresh_token"])).json()

    said = {"active": True, "client_id": app.client_id, "token_type": "Bearer", "scope": "devices:read devices:call"}
    said |= {"iss": "http://127.0.0.1:8000", "username": KIM, "sub": app.more["customer"]}
    assert {name: access[name] for name in access if name not in ("iat", "exp")} == said
    assert (access["exp"] - access["iat"], refresh["exp"] - refresh["iat"]) == (3600, 30 * 86400)


@pytest.mark.parametrize("which", ["another's", "revoked", "spent", "unknown", "a session's"])
async def test_what_is_not_a_clients_own_living_token_is_inactive_to_it(tester: HouseTester, which: str) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()
        token = {"unknown": "whatever", "a session's": app.more["owner"]}.get(which, pair["access_token"])
        if which == "another's":
            app.client_id, app.secret = await a_client(tester, app.more["owner"], app.more["product_id"])
        if which == "revoked":
            await app.post("/oauth/revoke", token=token)
        if which == "spent":
            token = pair["refresh_token"]
            await app.refresh(token)

        answered = await app.post("/oauth/introspect", token=token)

    assert (answered.status_code, answered.json()) == (200, {"active": False})


async def test_only_who_can_prove_it_may_examine(tester: HouseTester) -> None:
    async with porch(tester, public=True) as app:
        pair = await app.tokens()

        answered = await app.post("/oauth/introspect", token=pair["access_token"])

    assert (answered.status_code, answered.json()["error"]) == (401, "invalid_client")


# ── what the server says of itself ──
async def test_the_metadata_is_what_the_rfcs_want_and_true(tester: HouseTester) -> None:
    async with porch(tester) as app:
        answered = await app.http.get("/.well-known/oauth-authorization-server")

    metadata: Any = rfc8414.AuthorizationServerMetadata(answered.json())
    metadata.validate(metadata_classes=[rfc9207.AuthorizationServerMetadata])
    assert metadata["issuer"] == "http://127.0.0.1:8000"
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["grant_types_supported"] == ["authorization_code", "refresh_token", "client_credentials"]


async def test_every_answer_to_an_app_says_whose_it_is(tester: HouseTester) -> None:
    async with porch(tester) as app:
        allowed = redirected(await app.press(await app.at_consent(), "allow"))
        denied = redirected(await app.press(await app.at_consent(), "deny"))

    assert (allowed[0], sorted(allowed[1]), allowed[1]["iss"]) == (REDIRECT, ["code", "iss", "state"], "http://127.0.0.1:8000")
    assert denied[1]["iss"] == "http://127.0.0.1:8000"


async def test_consent_is_audited_as_the_customers_act(tester: HouseTester) -> None:
    async with porch(tester) as app:
        await app.tokens()

    entry = await AuditEntry.all().order_by("-id").first()
    assert entry is not None
    assert (entry.actor, entry.action, entry.subject) == (f"customer:{KIM}", "oauth_consent.given", f"oauth-client:{app.client_id}")
    assert (entry.detail, entry.address) == ({"scopes": ["devices:read", "devices:call"]}, "127.0.0.1")


async def test_a_secret_may_come_in_the_body_as_well(tester: HouseTester) -> None:
    async with porch(tester) as app:
        code, secret, app.secret = await app.code(), app.secret, None

        answered = await app.redeem(code, client_secret=secret)

    assert answered.status_code == 200
