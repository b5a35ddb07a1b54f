"""The pages of OAuth without a browser: what they show, what their forms take, and what they never do."""

import dataclasses

import httpx
import pytest

from auth.passwords import hash_password
from auth.scopes import Holder, scopes_of
from gateway.live import LiveFleet
from models.customer import Customer
from models.oauth import OAuthConsent
from models.operations import AuditEntry
from settings import Settings
from tests.house import PASSWORD, HouseTester, open_house
from tests.oauth_house import KIM, REDIRECT, Porch, a_client, a_product, authorization, porch, redirected
from tests.stored import whatever_a_refusal_must_leave_alone
from transport.oauth_pages import SENTENCES

COOKIE = "flotilla-visit"


async def at_log_in(app: Porch) -> httpx.Response:
    page = await app.http.get("/oauth/authorize", params=authorization(app.client_id))
    assert 'value="log_in"' in page.text
    return page


# ── what they show ──
async def test_the_log_in_names_the_product_and_the_app(app: Porch) -> None:
    page = await at_log_in(app)

    assert page.status_code == 200
    assert "<h1>Log in to Lamp</h1>" in page.text
    assert "<strong>Porch</strong>" in page.text


async def test_the_consent_says_who_asks_for_what_of_whom_and_where_it_leads(app: Porch) -> None:
    page = await app.at_consent(scope="devices:read")

    assert "<h1>Porch asks for access to your Lamp account</h1>" in page.text
    assert page.text.count("<li>") == 1
    assert [text in page.text for text in ("<li>See your devices and their state</li>", KIM, "porch.example")] == [True] * 3


def test_every_scope_of_customers_has_a_sentence_for_them() -> None:
    assert set(SENTENCES) == set(scopes_of(Holder.CUSTOMER))


async def test_no_page_runs_a_script_or_can_be_framed_or_kept(app: Porch) -> None:
    pages = [await at_log_in(app), await app.http.get("/oauth/sign-up", params=authorization(app.client_id))]
    pages += [await app.at_consent(), await app.http.get("/oauth/authorize")]

    for page in pages:
        rules = dict(rule.partition(" ")[::2] for rule in page.headers["content-security-policy"].split("; "))
        forms = rules.pop("form-action")
        assert forms == ("'self' https://porch.example" if page.status_code == 200 else "'self'")
        assert rules.pop("style-src").startswith("'sha256-")
        assert rules == {"default-src": "'none'", "base-uri": "'none'", "frame-ancestors": "'none'"}
        assert (page.headers["x-frame-options"], page.headers["cache-control"]) == ("DENY", "no-store")
        assert (page.headers["referrer-policy"], page.headers["x-content-type-options"]) == ("no-referrer", "nosniff")
        assert ("<script" in page.text, "style=" in page.text) == (False, False)


async def test_names_are_shown_and_never_run(app: Porch) -> None:
    tester: HouseTester = app.more["tester"]
    name = "<script>alert('x')</script>\"&"
    app.client_id, app.secret = await a_client(tester, app.more["owner"], app.more["product_id"], name=name)
    await Customer.all().update(username=name)

    log_in, consent = await at_log_in(app), await app.at_consent(state="\"><script>'")

    assert ["<script" in page.text for page in (log_in, consent)] == [False, False]
    assert consent.text.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;") == 4


# ── logging in ──
async def test_a_wrong_password_is_said_and_the_name_kept(app: Porch) -> None:
    before = await whatever_a_refusal_must_leave_alone()

    page = await app.press(await at_log_in(app), "log_in", username="kim@example.com<", password="wrong")

    assert page.status_code == 400
    assert '<p role="alert" class="error">The user name or the password is wrong.</p>' in page.text
    assert 'value="kim@example.com&lt;"' in page.text
    assert "wrong" not in page.text.replace("is wrong.", "")
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_guessing_is_slowed_and_told_when_to_come_back(migrated_sqlite: Settings) -> None:
    live = LiveFleet()
    async with open_house(dataclasses.replace(migrated_sqlite, rate_limits=True), live) as house, porch(HouseTester(house)) as app:
        page = await at_log_in(app)
        tries = [await app.press(page, "log_in", username=KIM, password=f"wrong {number}") for number in range(11)]
        right = await app.press(page, "log_in", username=KIM, password=PASSWORD)

    assert [each.status_code for each in tries] == [400] * 10 + [429]
    assert (right.status_code, 1 <= int(right.headers["retry-after"]) <= 10) == (429, True)


async def test_token_requests_of_one_address_are_counted(migrated_sqlite: Settings) -> None:
    settings = dataclasses.replace(migrated_sqlite, rate_limits=True, token_requests_per_window=3)
    async with open_house(settings, LiveFleet()) as house, porch(HouseTester(house)) as app:
        answered = [await app.exchange(grant_type="client_credentials") for _ in range(4)]

    assert [each.status_code for each in answered] == [400, 400, 400, 429]
    assert int(answered[3].headers["retry-after"]) == 100


async def test_who_logs_in_gets_another_cookie_and_sees_the_consent_again_without_a_password(app: Porch) -> None:
    page = await at_log_in(app)
    before = app.http.cookies[COOKIE]

    entered = await app.press(page, "log_in", username=KIM, password=PASSWORD)

    assert entered.status_code == 303
    assert entered.headers["location"].startswith("/oauth/authorize?response_type=code")
    assert app.http.cookies[COOKIE] != before
    cookie = entered.headers["set-cookie"].lower()
    assert [text in cookie for text in ("httponly", "samesite=lax", "max-age=600", "path=/", "secure")] == [True] * 4 + [False]
    again = await app.http.get("/oauth/authorize", params=authorization(app.client_id))
    assert 'value="allow"' in again.text


async def test_behind_tls_the_cookie_is_secure_and_of_this_host_alone(migrated_sqlite: Settings) -> None:
    settings = dataclasses.replace(migrated_sqlite, public_url="https://fleet.example")
    async with open_house(settings, LiveFleet()) as house, porch(HouseTester(house)) as app:
        cookie = (await at_log_in(app)).headers["set-cookie"]
        pair = await app.tokens()

    assert cookie.startswith("__Host-flotilla-visit=")
    assert "; Secure" in cookie
    assert "Domain" not in cookie
    assert "access_token" in pair


async def test_without_tls_nothing_is_given_but_on_this_machine(migrated_sqlite: Settings) -> None:
    settings = dataclasses.replace(migrated_sqlite, public_url="http://fleet.example")
    async with open_house(settings, LiveFleet()) as house, porch(HouseTester(house)) as app:
        page = await app.http.get("/oauth/authorize", params=authorization(app.client_id))
        token = await app.exchange(grant_type="client_credentials")

    assert (page.status_code, token.status_code, token.json()["error"]) == (400, 400, "insecure_transport")


@pytest.mark.parametrize("since", ["another password", "deleted", "another product"])
async def test_a_log_in_is_good_for_its_product_and_while_it_is_true(app: Porch, since: str) -> None:
    page, tester = await app.at_consent(), app.more["tester"]
    if since == "another password":
        await Customer.all().update(password_hash=await hash_password("another sentence of some length"))
    if since == "deleted":
        await Customer.all().delete()
    if since == "another product":
        fan = await a_product(tester, app.more["owner"], "Fan")
        app.client_id, app.secret = await a_client(tester, app.more["owner"], fan)
        page = await app.http.get("/oauth/authorize", params=authorization(app.client_id))
        assert "<h1>Log in to Fan</h1>" in page.text

    pressed = await app.press(page, "allow")

    assert pressed.status_code == 303
    assert pressed.headers["location"].startswith("/oauth/authorize?")  # and not back to the app
    assert await OAuthConsent.all().count() == 0
    assert 'value="log_in"' in (await app.http.get(pressed.headers["location"])).text


# ── signing up ──
async def test_a_new_customer_signs_up_and_goes_on_to_the_consent(app: Porch) -> None:
    page = await app.http.get("/oauth/sign-up", params=authorization(app.client_id))

    entered = await app.press(page, "sign_up", username="Lee@example.com", password=PASSWORD)
    consent = await app.http.get(entered.headers["location"])

    assert "Lee@example.com" in consent.text
    where, found = redirected(await app.press(consent, "allow"))
    assert (where, "code" in found) == (REDIRECT, True)
    lee = await Customer.get(username="Lee@example.com")
    assert lee.username_key == "lee@example.com"
    entries = [(entry.actor, entry.action) for entry in await AuditEntry.all().order_by("-id").limit(2)]
    assert entries == [("customer:Lee@example.com", "oauth_consent.given"), ("customer:Lee@example.com", "customer.signed_up")]


@pytest.mark.parametrize(
    ("username", "password", "said"),
    [
        (KIM, PASSWORD, "The product has an account of this name"),
        ("lee", "short", "15 characters"),
        ("", PASSWORD, "1 to 254 characters"),
        ("lee\x01", PASSWORD, "control characters"),
    ],
)
async def test_a_sign_up_that_cannot_be_says_why(app: Porch, username: str, password: str, said: str) -> None:
    page = await app.http.get("/oauth/sign-up", params=authorization(app.client_id))
    before = await whatever_a_refusal_must_leave_alone()

    refused = await app.press(page, "sign_up", username=username, password=password)

    assert (refused.status_code, said in refused.text) == (400, True)
    assert "<h1>Sign up for Lamp</h1>" in refused.text
    assert await whatever_a_refusal_must_leave_alone() == before


# ── deciding ──
async def test_denial_goes_back_to_the_app_and_leaves_nothing(app: Porch) -> None:
    page = await app.at_consent()
    before = await whatever_a_refusal_must_leave_alone()

    where, found = redirected(await app.press(page, "deny"))

    assert (where, found["error"], found["state"]) == (REDIRECT, "access_denied", "xyz")
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_who_does_not_log_in_may_go_back_too(app: Porch) -> None:
    assert redirected(await app.press(await at_log_in(app), "deny"))[1]["error"] == "access_denied"


async def test_another_account_may_be_used(app: Porch) -> None:
    left = await app.press(await app.at_consent(), "leave")

    assert 'value="log_in"' in (await app.http.get(left.headers["location"])).text


FORGED = {
    "no token": {"form_token": None},
    "a token of nothing": {"form_token": "0" * 64},
    "another browser's token": {},
    "the token of another request": {"state": "other"},
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_form_that_another_page_sends_does_nothing(app: Porch, name: str) -> None:
    page, changed = await app.at_consent(), dict(FORGED[name])
    token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
    asked = authorization(app.client_id, state=changed.pop("state", "xyz") or "xyz")
    if name == "another browser's token":
        app.http.cookies.clear()
        await app.at_consent()
    before = await whatever_a_refusal_must_leave_alone()
    form = {"form_token": changed.get("form_token", token), "step": "allow"}

    answered = await app.http.post("/oauth/authorize", params=asked, data={name: value for name, value in form.items() if value})

    assert (answered.status_code, "location" in answered.headers) == (403, False)
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_the_doors_are_no_place_for_other_methods_or_types(app: Porch) -> None:
    page = await app.http.request("PUT", "/oauth/authorize", params=authorization(app.client_id))
    typed = await app.http.post("/oauth/authorize", params=authorization(app.client_id), json={"step": "allow"})

    assert (page.status_code, typed.status_code) == (405, 415)
