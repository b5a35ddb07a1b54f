"""The doors of the pages on which a customer logs in, signs up, and decides what an app may do."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from auth.oauth import Answered, Asked, OAuthServer, Wish
from auth.viewer import Viewer
from errors import CallerError, RateLimited
from fleet.customers import accounts, consenting, passwords, signing_in
from fleet.house import House
from models.customer import Customer
from models.product import Product
from transport import gate, oauth_pages
from transport.gate import Refusal
from transport.oauth import AUTHORIZE, FORM, FORM_MAX_BYTES, fields
from transport.oauth_pages import Asking, LetIn
from transport.rates import address_key, when_to_come_back
from transport.shared_rates import Rates
from transport.visits import Visit, Visits, is_proven

SIGN_UP, FORGOTTEN, APPS = (f"/oauth/{page}" for page in ("sign-up", "forgotten", "apps"))
SENT = "If there is such an account and it has an address, a letter with a code is on its way to it."
EXPIRED = "This page was open for too long, or your browser keeps no cookies: try once more."


@dataclass(frozen=True, slots=True)
class _Step:
    """One request of a browser: what the app asks, and how far the customer is."""

    request: Request
    asked: Asked
    wish: Wish
    visit: Visit
    customer: Customer | None
    by: Viewer

    @property
    def path(self) -> str:
        return self.request.url.path


class OAuthPages:
    """Each request is whole by itself: the app's request stays in the address, who logged in stays in the visit's cookie."""

    def __init__(self, server: OAuthServer, house: House, rates: Rates) -> None:
        self._server = server
        self._house = house
        self._visits = Visits(house.settings.secret_key, house.settings.public_url)
        self._rate = rates.requests

    def routes(self) -> list[BaseRoute]:
        return [Route(path, self._answer, methods=["GET", "POST"]) for path in (AUTHORIZE, SIGN_UP, FORGOTTEN, APPS)]

    async def _answer(self, request: Request) -> Response:
        host = request.client.host if request.client else None
        try:
            if self._house.settings.rate_limits:
                await self._rate.take(address_key(host))
            asked = Asked("GET", self._house.settings.public_url + AUTHORIZE, fields(request.url.query.encode(), free=("state",)))
            found = await self._server.examine(asked)
            if isinstance(found, Answered):
                return _answered(found)
            visit = self._visits.of(request) or self._visits.begin()
            customer = await self._visitor(visit, found.client.product)
            step = _Step(request, asked, found, visit, customer, Viewer(address=host))
            return await (self._posted(step) if request.method == "POST" else self._page(step))
        except Refusal as refusal:
            return oauth_pages.failed(refusal.message, refusal.status)
        except RateLimited as refusal:
            return oauth_pages.failed(refusal.message, 429, when_to_come_back(refusal))
        except CallerError as refusal:
            return oauth_pages.failed(refusal.message)
        except ClientDisconnect:
            return Response(status_code=400)

    async def _visitor(self, visit: Visit, product: Product) -> Customer | None:
        """Who has logged in to this product; None once the account is gone or its password another."""
        customer = await accounts.by_id(product, visit.customer_id) if visit.customer_id else None
        return customer if customer is not None and is_proven(visit, customer) else None

    async def _page(self, step: _Step, *, username: str = "", error: str = "", note: str = "", status: int = 200) -> Response:
        asking = self._asking(step)
        said: dict[str, Any] = {"error": error, "status": status}
        if step.path == SIGN_UP:
            response = oauth_pages.sign_up(asking, username=username, **said)
        elif step.path == FORGOTTEN:
            response = oauth_pages.forgotten(asking, username=username, note=note, **said)
        elif step.customer is None:
            response = oauth_pages.log_in(asking, username=username, **said)
        elif step.path == APPS:
            found = (await consenting.consents_of([step.customer.id])).get(step.customer.id, [])
            let_in = [LetIn(each.client.client_id, each.client.name, each.scopes) for each in found]
            response = oauth_pages.apps(asking, username=step.customer.username, let_in=let_in, **said)
        else:
            response = oauth_pages.consent(asking, username=step.customer.username, scopes=step.wish.scopes, **said)
        self._visits.keep(step.visit, response)
        return response

    async def _posted(self, step: _Step) -> Response:
        form = await _form(step.request)
        if not self._visits.is_form_token(form.get("form_token", ""), step.visit, step.request.url.query):
            return await self._page(step, error=EXPIRED, status=403)
        match form.get("step"):
            case "log_in" | "sign_up" | "send" | "reset" as what:
                return await self._tried(step, form, self._enter if what in ("log_in", "sign_up") else self._set_password)
            case "take_back" if step.customer is not None:
                await consenting.take_back(step.customer, form.get("app", ""), by=accounts.as_customer(step.customer, step.by))
                return await self._page(step)
            case "allow" if step.customer is not None:
                return _answered(await self._server.decide(step.asked, accounts.as_customer(step.customer, step.by)))
            case "deny":
                return _answered(await self._server.decide(step.asked, None))
        return self._next(step, self._visits.begin())

    async def _tried(
        self, step: _Step, form: Mapping[str, str], act: Callable[[_Step, Mapping[str, str]], Awaitable[Response]]
    ) -> Response:
        """What the act answers, or the same page with what is wrong."""
        name = form.get("username", "")
        try:
            return await act(step, form)
        except RateLimited as refusal:
            response = await self._page(step, username=name, error=refusal.message, status=429)
            response.headers.update(when_to_come_back(refusal))
            return response
        except CallerError as refusal:
            return await self._page(step, username=name, error=refusal.message, status=400)

    async def _enter(self, step: _Step, form: Mapping[str, str]) -> Response:
        """Become a customer, or prove to be one; then look at what the app asks."""
        product, name, password = step.wish.client.product, form.get("username", ""), form.get("password", "")
        enter = signing_in.sign_up_for_app if step.path == SIGN_UP else accounts.prove_account
        customer = await enter(product, name, password, house=self._house, by=step.by)
        return self._next(step, self._visits.begin(customer))

    async def _set_password(self, step: _Step, form: Mapping[str, str]) -> Response:
        """Have a code sent, or spend it; then log in with the new password."""
        product, house = step.wish.client.product, self._house
        if form["step"] == "send":
            await passwords.request_reset(product, form.get("username", ""), house=house, by=step.by)
            return await self._page(step, note=SENT)
        await passwords.reset_password(form.get("code", "").strip(), form.get("password", ""), house=house, by=step.by)
        return self._next(step, self._visits.begin())

    def _next(self, step: _Step, visit: Visit) -> Response:
        """The same request of the app, looked at anew."""
        response = RedirectResponse(f"{AUTHORIZE}?{step.request.url.query}", 303, oauth_pages.HEADERS)
        self._visits.keep(visit, response)
        return response

    def _asking(self, step: _Step) -> Asking:
        query, client = step.request.url.query, step.wish.client
        token = self._visits.form_token(step.visit, query)
        return Asking(client.product.name, client.name, query, step.wish.redirect_uri, token)


async def _form(request: Request) -> dict[str, str]:
    if gate.media_type(request) != FORM:
        raise Refusal(415, f"Send {FORM}.")
    return fields(await gate.body(request, FORM_MAX_BYTES), free=("username", "password", "code"))


def _answered(answered: Answered) -> Response:
    if answered.location is not None:
        return RedirectResponse(answered.location, answered.status, oauth_pages.HEADERS)
    return oauth_pages.failed(str(answered.body.get("error_description") or answered.body.get("error")), answered.status)
