"""What customers do for their own account on the pages of OAuth: setting a forgotten password, and taking back what apps may do."""

import re

from models.oauth import OAuthConsent
from tests.house import HouseTester
from tests.oauth_house import KIM, Porch, a_client, authorization
from tests.stored import whatever_a_refusal_must_leave_alone

NEW = "seven otters juggle at noon"


async def at(app: Porch, page: str):  # type: ignore[no-untyped-def]  # what httpx answers
    return await app.http.get(f"/oauth/{page}", params=authorization(app.client_id))


async def test_a_forgotten_password_is_set_by_a_letter_on_the_way_to_the_app(app: Porch) -> None:
    tester: HouseTester = app.more["tester"]
    link = re.search(r'href="(/oauth/forgotten[^"]*)"', (await at(app, "authorize")).text)
    assert link is not None
    page = await at(app, "forgotten")

    sent = await app.press(page, "send", username=KIM)
    unknown = await app.press(page, "send", username="eve@example.com")

    assert (sent.status_code, 'role="status"' in sent.text) == (200, True)
    assert re.sub(r'value="[^"]*"', "", unknown.text) == re.sub(r'value="[^"]*"', "", sent.text), "an unknown name is answered alike"
    (letter,) = [each for each in await tester.letters() if each.subject == "A new password for Lamp"]
    code = next(line for line in letter.text.splitlines() if line.startswith("flr_"))
    weak = await app.press(sent, "reset", code=code, password="short")
    assert (weak.status_code, 'class="error"' in weak.text, "short" in weak.text.replace("too short", "")) == (400, True, False)
    done = await app.press(sent, "reset", code=f" {code}", password=NEW)

    assert (done.status_code, done.headers["location"].partition("?")[0]) == (303, "/oauth/authorize")
    log_in = await app.http.get(done.headers["location"])
    assert (await app.press(log_in, "log_in", username=KIM, password=NEW)).status_code == 303
    again = await app.press(sent, "reset", code=code, password="eight otters juggle at noon")
    assert again.status_code in (400, 403), "a code is good once, and a page for one visit"


async def test_a_customer_sees_what_apps_may_do_and_takes_it_back(app: Porch) -> None:
    tester: HouseTester = app.more["tester"]
    page = Porch(app.http, *await a_client(tester, app.more["owner"], app.more["product_id"], name="Page", public=True), app.more)
    pair, other = await app.tokens(), await page.tokens()
    listed = await at(app, "apps")
    assert re.findall(r"<h2>(.*)</h2>", listed.text) == ["Page", "Porch"]
    assert listed.text.count("<li>See your devices and their state</li>") == 2

    left = await app.press(listed, "take_back", app=app.client_id)

    assert re.findall(r"<h2>(.*)</h2>", left.text) == ["Page"]
    assert (await app.refresh(pair["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await page.refresh(other["refresh_token"])).status_code == 200
    assert (await tester.audited())[-1] == "oauth_consent.taken_back"


async def test_nobody_takes_back_what_another_customer_gave_or_before_the_log_in(app: Porch) -> None:
    tester: HouseTester = app.more["tester"]
    await app.tokens()
    listed = await at(app, "apps")
    app.http.cookies.clear()
    stranger = await app.press(listed, "take_back", app=app.client_id)
    assert (stranger.status_code, 'value="log_in"' in stranger.text) == (403, True)
    await tester.do("createCustomer", "clientMutationId", app.more["owner"], productId=app.more["product_id"], username="lee", password=NEW)
    entered = await app.press(await at(app, "apps"), "log_in", username="lee", password=NEW)
    assert entered.status_code == 303
    before = await whatever_a_refusal_must_leave_alone()

    refused = await app.press(await at(app, "authorize"), "take_back", app=app.client_id)

    assert (refused.status_code, "no such app" in refused.text) == (400, True)
    assert "There are none." in (await at(app, "apps")).text
    assert await whatever_a_refusal_must_leave_alone() == before
    assert await OAuthConsent.filter(revoked_at=None).count() == 1
