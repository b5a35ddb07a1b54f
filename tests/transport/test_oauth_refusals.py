"""What OAuth's doors refuse, each with its code, and nothing changed by it; and the two things that do change: reuse ends a family."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fleet.customers.consenting import Consents
from models.account import Token
from models.oauth import OAuthCode, OAuthConsent
from models.operations import AuditEntry
from models.sql import rows
from tests.connected import until
from tests.house import HouseTester
from tests.oauth_house import REDIRECT, VERIFIER, Porch, a_client, authorization, porch, redirected
from tests.stored import whatever_a_refusal_must_leave_alone
from tests.transport.test_oauth import codes_of

# ── asking for consent ──
HERE = "shown here, and nobody is sent anywhere"
ASKED: dict[str, tuple[dict[str, str | None], str]] = {
    "an unknown client": ({"client_id": "0" * 32}, HERE),
    "no client": ({"client_id": None}, HERE),
    "no redirect URI": ({"redirect_uri": None}, HERE),
    "another path": ({"redirect_uri": f"{REDIRECT}/"}, HERE),
    "another host": ({"redirect_uri": "https://evil.example/back"}, HERE),
    "a host that only looks like it": ({"redirect_uri": "https://porch.example@evil.example/back"}, HERE),
    "a longer host": ({"redirect_uri": "https://porch.example.evil.example/back"}, HERE),
    "no TLS": ({"redirect_uri": "http://porch.example/back"}, HERE),
    "another case": ({"redirect_uri": "https://PORCH.example/back"}, HERE),
    "more in the query": ({"redirect_uri": f"{REDIRECT}?next=https://evil.example"}, HERE),
    "a path that climbs": ({"redirect_uri": "https://porch.example/x/../back"}, HERE),
    "no scheme": ({"redirect_uri": "//porch.example/back"}, HERE),
    "a script": ({"redirect_uri": "javascript:alert(1)"}, HERE),
    "quotes in a parameter": ({"response_type": 'code"><script>'}, HERE),
    "a line break in a parameter": ({"scope": "devices:read\r\nX: y"}, HERE),
    "a NUL in the state": ({"state": "x\0y"}, HERE),
    "no challenge": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "a method without a challenge": ({"code_challenge": None}, "invalid_request"),
    "a challenge without a method, which would be plain": ({"code_challenge_method": None}, "invalid_request"),
    "plain": ({"code_challenge": VERIFIER, "code_challenge_method": "plain"}, "invalid_request"),
    "a short challenge": ({"code_challenge": "short"}, "invalid_request"),
    "the implicit grant": ({"response_type": "token"}, "unsupported_response_type"),
    "a token beside the code": ({"response_type": "code token"}, "unsupported_response_type"),
    "no response type": ({"response_type": None}, "unsupported_response_type"),
    "an unknown scope": ({"scope": "devices:read everything"}, "invalid_scope"),
    "a scope of the team": ({"scope": "devices:write"}, "invalid_scope"),
    "a scope it is not registered with": ({"scope": "devices:claim"}, "invalid_scope"),
}


async def test_a_bad_request_for_consent_is_refused_before_and_after_the_log_in(tester: HouseTester) -> None:
    async with porch(tester, scopes=["devices:read", "devices:call"]) as app:
        await app.at_consent()
        before = await whatever_a_refusal_must_leave_alone()

        answered = {}
        for name, (asked, _) in ASKED.items():
            bad = authorization(app.client_id, **asked)
            shown = await app.http.get("/oauth/authorize", params=bad)
            pressed = await app.http.post("/oauth/authorize", params=bad, data={"step": "allow"})
            answered[name] = {_outcome(shown), _outcome(pressed)}

        assert answered == {name: {expected} for name, (_, expected) in ASKED.items()}
        assert await whatever_a_refusal_must_leave_alone() == before


def _outcome(answered: httpx.Response) -> str:
    """Whether it was shown here, or else with which error the app was told so, in a whole answer."""
    if answered.status_code == 400 and "location" not in answered.headers and '<p role="alert">' in answered.text:
        return HERE if "<script" not in answered.text else "a script"
    where, found = redirected(answered)
    assert (where, found["state"], found["iss"], "code" in found) == (REDIRECT, "xyz", "http://127.0.0.1:8000", False)
    return found["error"]


async def test_a_parameter_given_twice_is_refused(tester: HouseTester) -> None:
    async with porch(tester) as app:
        twice = [*authorization(app.client_id).items(), ("redirect_uri", "https://evil.example/back")]

        answered = await app.http.get("/oauth/authorize", params=twice)  # type: ignore[arg-type]

    assert (answered.status_code, "location" in answered.headers) == (400, False)


async def test_a_product_whose_customers_log_in_another_way_sends_the_app_back(tester: HouseTester) -> None:
    async with porch(tester) as app:
        answers = [{"key": "auth_method", "answer": "SIMPLE"}]
        await tester.do("answerQuestions", "clientMutationId", app.more["owner"], productId=app.more["product_id"], answers=answers)

        answered = await app.http.get("/oauth/authorize", params=authorization(app.client_id))

    assert redirected(answered)[1]["error"] == "unauthorized_client"


# ── tokens ──
# (the app, a code that is good, what came of an earlier one) → what it is answered
Try = Callable[[Porch, str, dict[str, Any]], Awaitable[httpx.Response]]


async def _anothers_code(app: Porch, code: str, given: dict[str, Any]) -> httpx.Response:
    app.client_id, app.secret = given["other"]
    return await app.redeem(code)


async def _anothers_refresh_token(app: Porch, _: str, given: dict[str, Any]) -> httpx.Response:
    app.client_id, app.secret = given["other"]
    return await app.refresh(given["refresh_token"])


async def _by_name_alone(app: Porch, code: str, _: dict[str, Any]) -> httpx.Response:
    app.secret = None
    return await app.redeem(code)


async def _with_a_secret(app: Porch, code: str, secret: str) -> httpx.Response:
    app.secret = secret
    return await app.redeem(code)


async def _headed(app: Porch, code: str, authorization: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    return await app.http.post("/oauth/token", data=form, headers={"Authorization": authorization})


async def _in_the_address(app: Porch, code: str, _: dict[str, Any]) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    return await app.http.post("/oauth/token", params={"code": code}, data=form, auth=(app.client_id, str(app.secret)))


async def _as_json(app: Porch, code: str, _: dict[str, Any]) -> httpx.Response:
    return await app.http.post("/oauth/token", json={"grant_type": "authorization_code", "code": code})


async def _twice(app: Porch, code: str, _: dict[str, Any]) -> httpx.Response:
    raw = f"grant_type=authorization_code&code={code}&code={code}&redirect_uri={REDIRECT}&code_verifier={VERIFIER}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await app.http.post("/oauth/token", content=raw, headers=headers, auth=(app.client_id, app.secret))


async def _too_long(app: Porch, code: str, _: dict[str, Any]) -> httpx.Response:
    return await app.redeem(code, padding="x" * 70_000)


def _redeeming(**form: str | None) -> Try:
    return lambda app, code, _: app.redeem(code, **form)


def _exchanging(**form: str) -> Try:
    return lambda app, _, __: app.exchange(**form)


TRIED: dict[str, tuple[Try, int, str]] = {
    "an unknown code": (lambda app, _, __: app.redeem("flo_whatever"), 400, "invalid_grant"),
    "a code with text of another alphabet": (lambda app, _, __: app.redeem("flö\0"), 400, "invalid_request"),
    "another client's code": (_anothers_code, 400, "invalid_grant"),
    "a wrong verifier": (_redeeming(code_verifier=VERIFIER[::-1]), 400, "invalid_grant"),
    "no verifier": (_redeeming(code_verifier=None), 400, "invalid_request"),
    "a short verifier": (_redeeming(code_verifier="short"), 400, "invalid_request"),
    "another redirect URI": (_redeeming(redirect_uri="https://evil.example/back"), 400, "invalid_grant"),
    "no redirect URI": (_redeeming(redirect_uri=None), 400, "invalid_grant"),
    "no code": (_exchanging(grant_type="authorization_code", redirect_uri=REDIRECT, code_verifier=VERIFIER), 400, "invalid_request"),
    "a client with a secret, by its name alone": (_by_name_alone, 401, "invalid_client"),
    "a wrong secret": (lambda app, code, _: _with_a_secret(app, code, "fls_wrong"), 401, "invalid_client"),
    "an unknown client": (lambda app, code, _: _headed(app, code, "Basic " + base64.b64encode(b"x:y").decode()), 401, "invalid_client"),
    "a header that is no base64": (lambda app, code, _: _headed(app, code, "Basic ???"), 401, "invalid_client"),
    "a header of other bytes": (lambda app, code, _: _headed(app, code, "Basic /////w=="), 401, "invalid_client"),
    "a header without a value": (lambda app, code, _: _headed(app, code, "Basic"), 401, "invalid_client"),
    "a token as its header": (lambda app, code, given: _headed(app, code, f"Bearer {given['access_token']}"), 401, "invalid_client"),
    "a code in the address": (_in_the_address, 400, "invalid_request"),
    "JSON": (_as_json, 400, "invalid_request"),
    "a code given twice": (_twice, 400, "invalid_request"),
    "a body without end": (_too_long, 413, "BAD_REQUEST"),
    "the password grant": (_exchanging(grant_type="password", username="kim@example.com", password="x"), 400, "unsupported_grant_type"),
    "the implicit grant": (_exchanging(grant_type="implicit"), 400, "unsupported_grant_type"),
    "no grant": (_exchanging(scope="devices:read"), 400, "unsupported_grant_type"),
    "client credentials of an app that has nothing of its own": (_exchanging(grant_type="client_credentials"), 400, "unauthorized_client"),
    "another client's refresh token": (_anothers_refresh_token, 400, "invalid_grant"),
    "an access token as refresh token": (lambda app, _, given: app.refresh(given["access_token"]), 400, "invalid_grant"),
    "more scopes at a refresh": (
        lambda app, _, given: app.refresh(given["refresh_token"], scope="devices:read devices:claim"),
        400,
        "invalid_scope",
    ),
}


async def test_what_no_token_is_given_for_changes_nothing(tester: HouseTester) -> None:
    async with porch(tester) as app:
        given: dict[str, Any] = await app.tokens()
        given["other"] = await a_client(tester, app.more["owner"], app.more["product_id"], name="Other")
        code, mine = await app.code(), (app.client_id, app.secret)
        before = await whatever_a_refusal_must_leave_alone()

        answered = {}
        for name, (attempt, _, _) in TRIED.items():
            app.client_id, app.secret = mine
            tried = await attempt(app, code, given)
            answered[name] = (tried.status_code, tried.json().get("error"))
            assert tried.headers["cache-control"] == "no-store"
            assert await whatever_a_refusal_must_leave_alone() == before, name

        assert answered == {name: (status, error) for name, (_, status, error) in TRIED.items()}
        app.client_id, app.secret = mine
        assert (await app.redeem(code)).status_code == 200  # so it was the tries that were wrong
        assert (await app.refresh(given["refresh_token"])).status_code == 200


async def test_a_code_is_good_for_a_minute(tester: HouseTester) -> None:
    async with porch(tester) as app:
        code = await app.code()
        row = await OAuthCode.get()
        assert row.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
        await OAuthCode.all().update(expires_at=datetime.now(UTC))
        before = await whatever_a_refusal_must_leave_alone()

        answered = await app.redeem(code)

        assert (answered.status_code, answered.json()["error"]) == (400, "invalid_grant")
        assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_public_client_gets_nothing_of_its_own_and_nothing_without_its_verifier(tester: HouseTester) -> None:
    async with porch(tester, public=True) as app:
        code, before = await app.code(), await whatever_a_refusal_must_leave_alone()

        own = await app.exchange(grant_type="client_credentials")
        unproven = await app.redeem(code, code_verifier=None)

        assert (own.status_code, own.json()["error"]) == (401, "invalid_client")
        assert (unproven.status_code, unproven.json()["error"]) == (400, "invalid_request")
        assert await whatever_a_refusal_must_leave_alone() == before


async def test_tokens_are_asked_for_by_post_alone(tester: HouseTester) -> None:
    async with porch(tester) as app:
        answered = [await app.http.get(f"/oauth/{name}") for name in ("token", "revoke", "introspect")]

    assert [each.status_code for each in answered] == [405, 405, 405]


async def test_another_clients_token_is_not_revoked(tester: HouseTester) -> None:
    async with porch(tester) as app:
        pair = await app.tokens()
        app.client_id, app.secret = await a_client(tester, app.more["owner"], app.more["product_id"])
        before = await whatever_a_refusal_must_leave_alone()

        answered = [await app.post("/oauth/revoke", token=pair[name]) for name in ("access_token", "refresh_token")]

        assert [(each.status_code, each.json()["error"]) for each in answered] == [(400, "invalid_grant")] * 2
        assert await whatever_a_refusal_must_leave_alone() == before


# ── used again ──
async def test_a_code_that_is_used_again_ends_everything_that_came_of_it(tester: HouseTester) -> None:
    async with porch(tester) as app:
        code = await app.code()
        pair = (await app.redeem(code)).json()
        later = (await app.refresh(pair["refresh_token"])).json()

        again = await app.redeem(code)

        assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
        assert [await codes_of(tester, each["access_token"]) for each in (pair, later)] == [["UNAUTHENTICATED"]] * 2
        assert (await app.refresh(later["refresh_token"])).json()["error"] == "invalid_grant"
    entry = await AuditEntry.all().order_by("-id").first()
    assert entry is not None
    assert (entry.actor, entry.action, entry.detail) == ("oauth", "oauth_consent.ended", {"reason": "USED_AGAIN"})


async def test_a_refresh_token_that_is_used_again_ends_its_family_and_no_other(tester: HouseTester) -> None:
    async with porch(tester) as app:
        first, other = await app.tokens(), await app.tokens()
        second = (await app.refresh(first["refresh_token"])).json()

        again = await app.refresh(first["refresh_token"])

        assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
        assert await codes_of(tester, second["access_token"]) == ["UNAUTHENTICATED"]
        assert (await app.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
        assert await codes_of(tester, other["access_token"]) == []
        assert (await app.refresh(other["refresh_token"])).status_code == 200


@pytest.mark.parametrize("what", ["code", "refresh token"])
async def test_of_eight_at_once_one_gets_tokens_and_the_family_is_dead(postgres_tester: HouseTester, what: str) -> None:
    tester = postgres_tester
    async with porch(tester) as app:
        for _ in range(10):
            code = await app.code()
            spend = app.redeem(code)
            if what == "refresh token":
                token = (await spend).json()["refresh_token"]
                answered = await asyncio.gather(*(app.refresh(token) for _ in range(8)))
            else:
                spend.close()
                answered = await asyncio.gather(*(app.redeem(code) for _ in range(8)))

            winners = [each for each in answered if each.status_code == 200]
            assert sorted(each.json().get("error", "") for each in answered) == [""] + ["invalid_grant"] * 7
            assert await codes_of(tester, winners[0].json()["access_token"]) == ["UNAUTHENTICATED"]
            assert (await app.refresh(winners[0].json()["refresh_token"])).json()["error"] == "invalid_grant"
    assert await OAuthConsent.filter(revoked_at=None).count() == 0
    assert await Token.filter(auth_method="OAUTH", revoked_at=None).count() == 0


async def test_a_family_that_ends_takes_along_what_is_being_issued_in_it(
    postgres_tester: HouseTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    tester, issuing, go_on, issue = postgres_tester, asyncio.Event(), asyncio.Event(), Consents._issue

    async def slowly(self: Consents, *args: Any) -> Any:
        issuing.set()
        await go_on.wait()
        return await issue(self, *args)

    async with porch(tester) as app:
        code = await app.code()
        pair = (await app.redeem(code)).json()
        monkeypatch.setattr(Consents, "_issue", slowly)
        refreshing = asyncio.create_task(app.refresh(pair["refresh_token"]))
        await issuing.wait()

        reuse = asyncio.create_task(app.redeem(code))
        await until(lambda: _is_through_or_waits(reuse))
        go_on.set()
        refreshed = (await refreshing).json()

        assert (await reuse).json()["error"] == "invalid_grant"
        assert await codes_of(tester, refreshed["access_token"]) == ["UNAUTHENTICATED"]


async def _is_through_or_waits(task: asyncio.Task[Any]) -> bool:
    """Whether it is done, or PostgreSQL holds somebody until another has committed."""
    return task.done() or bool(await rows("SELECT 1 FROM pg_locks WHERE NOT granted"))
