"""The doors of the pages on which a customer logs in, signs up, and decides what an app may do."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from auth.oauth import Answered, Asked, OAuthServer, Wish
from auth.viewer import Viewer
from errors import CallerError, RateLimited
from fleet import consenting, customer_signing_in
from fleet import customer_accounts as accounts
from fleet.house import House
from models.customer import Customer
from models.product import Product
from transport import gate, oauth_pages
from transport.gate import Refusal
from transport.oauth import AUTHORIZE, FORM, FORM_MAX_BYTES, fields
from transport.oauth_pages import Asking
from transport.rates import address_key
from transport.shared_rates import Rates
from transport.visits import Visit, Visits, is_proven

SIGN_UP = "/oauth/sign-up"
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
    def is_sign_up(self) -> bool:
        return self.request.url.path == SIGN_UP


class OAuthPages:
    """Each request is whole by itself: the app's request stays in the address, who logged in stays in the visit's cookie."""

    def __init__(self, server: OAuthServer, house: House, rates: Rates) -> None:
        self._server = server
        self._house = house
        self._visits = Visits(house.settings.secret_key, house.settings.public_url)
        self._rate = rates.requests

    def routes(self) -> list[BaseRoute]:
        return [Route(path, self._answer, methods=["GET", "POST"]) for path in (AUTHORIZE, SIGN_UP)]

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
            return oauth_pages.failed(refusal.message, 429, _retry_after(refusal))
        except CallerError as refusal:
            return oauth_pages.failed(refusal.message)
        except ClientDisconnect:
            return Response(status_code=400)

    async def _visitor(self, visit: Visit, product: Product) -> Customer | None:
        """Who has logged in to this product; None once the account is gone or its password another."""
        customer = await consenting.account(product, visit.customer_id) if visit.customer_id else None
        return customer if customer is not None and is_proven(visit, customer) else None

    async def _page(self, step: _Step, *, username: str = "", error: str = "", status: int = 200) -> Response:
        asking, page = self._asking(step), oauth_pages.sign_up if step.is_sign_up else oauth_pages.log_in
        if step.customer is not None and not step.is_sign_up:
            name, scopes = step.customer.username, step.wish.scopes
            response = oauth_pages.consent(asking, username=name, scopes=scopes, error=error, status=status)
        else:
            response = page(asking, username=username, error=error, status=status)
        self._visits.keep(step.visit, response)
        return response

    async def _posted(self, step: _Step) -> Response:
        form = await _form(step.request)
        if not self._visits.is_form_token(form.get("form_token", ""), step.visit, step.request.url.query):
            return await self._page(step, error=EXPIRED, status=403)
        match form.get("step"):
            case "log_in" | "sign_up":
                return await self._enter(step, form)
            case "allow" if step.customer is not None:
                return _answered(await self._server.decide(step.asked, accounts.as_customer(step.customer, step.by)))
            case "deny":
                return _answered(await self._server.decide(step.asked, None))
        return self._next(step, self._visits.begin())

    async def _enter(self, step: _Step, form: Mapping[str, str]) -> Response:
        """Become a customer, or prove to be one; then look at what the app asks."""
        product, name, password = step.wish.client.product, form.get("username", ""), form.get("password", "")
        enter = customer_signing_in.sign_up_for_app if step.is_sign_up else accounts.prove_account
        try:
            customer = await enter(product, name, password, house=self._house, by=step.by)
        except RateLimited as refusal:
            response = await self._page(step, username=name, error=refusal.message, status=429)
            response.headers.update(_retry_after(refusal))
            return response
        except CallerError as refusal:
            return await self._page(step, username=name, error=refusal.message, status=400)
        return self._next(step, self._visits.begin(customer))

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
    return fields(await gate.body(request, FORM_MAX_BYTES), free=("username", "password"))


def _answered(answered: Answered) -> Response:
    if answered.location is not None:
        return RedirectResponse(answered.location, answered.status, oauth_pages.HEADERS)
    return oauth_pages.failed(str(answered.body.get("error_description") or answered.body.get("error")), answered.status)


def _retry_after(refusal: RateLimited) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(refusal.retry_after)))}
