"""The pages a person sees: a form that takes a test card by its name, a bank's check, an invoice to print. Plain HTML, no script."""

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from billing.sandbox import clock, invoicing, sessions, store
from billing.sandbox.charging import AUTHENTICATE, CARDS
from billing.sandbox.moment import Moment, Rules
from billing.sandbox.wire import Body, Fault
from models.sandbox_billing import SandboxObject

FORM_MAX_BYTES = 4096
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action *; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#222}"
    "select,button{font:inherit;padding:.4rem .8rem}td,th{padding:.2rem .8rem .2rem 0;text-align:left}td:last-child,th:last-child"
    "{text-align:right}.note{color:#666}.bad{color:#a00}@media print{form,.note{display:none}}"
)
Show: TypeAlias = Callable[[Request, str], Awaitable[Response]]
Submit: TypeAlias = Callable[[Request, str, int, Rules], Awaitable[Response]]


@dataclass(frozen=True)
class Found:
    """A page and what it is about."""

    id: str
    show: Show
    submit: Submit


def find(method: str, path: str) -> Found | None:
    match = re.fullmatch(r"/(checkout|setup|invoices|portal)/([A-Za-z0-9_]{1,80})", path)
    if match is None or method not in ("GET", "POST"):
        return None
    show, submit = PAGES[match[1]]
    return Found(match[2], show, submit)


async def show_checkout(request: Request, id: str) -> Response:
    session = await store.find("checkout.session", id)
    if session is None:
        return _gone()
    if session.body["status"] != "open":
        return _page("Card setup", f"<p>This page is {escape(session.body['status'])}.</p>")
    return _page("Set up a card", _card_form("Save card"))


async def submit_checkout(request: Request, id: str, wall: int, rules: Rules) -> Response:
    session = await store.find("checkout.session", id)
    if session is None:
        return _gone()
    form = await _form(request)
    card = form.get("card", "")
    if card not in CARDS:
        return _page("Set up a card", "<p class=bad>Choose one of the test cards; no numbers here.</p>" + _card_form("Save card"), 400)
    try:
        refusal = await sessions.complete(session, card, await _moment(session, wall, rules))
    except Fault as fault:
        return _page("Card setup", f"<p class=bad>{escape(str(fault))}</p>", fault.status)
    if refusal:
        return _page("Set up a card", f"<p class=bad>{escape(refusal.body['error']['message'])}</p>" + _card_form("Save card"), 402)
    back = (session.body["success_url"] or "").replace("{CHECKOUT_SESSION_ID}", session.id)
    return RedirectResponse(back, 303, HEADERS) if back else _page("Card setup", "<p>The card is saved. You can close this page.</p>")


async def show_setup(request: Request, id: str) -> Response:
    """The bank's check of a card that asks for one when it is set up."""
    intent = await store.find("setup_intent", id)
    if intent is None or not _allowed(request, intent.body["client_secret"]):
        return _gone()
    return _check_page("Confirm your card", done=intent.body["status"] == "succeeded")


async def submit_setup(request: Request, id: str, wall: int, rules: Rules) -> Response:
    intent = await store.find("setup_intent", id)
    if intent is None or not _allowed(request, intent.body["client_secret"]):
        return _gone()
    if (await _form(request)).get("answer") == "yes" and intent.body["status"] == "requires_action":
        await sessions.confirm(intent, None, await _moment(intent, wall, rules), checked=True)
    return _check_page("Confirm your card", done=intent.body["status"] == "succeeded")


async def show_invoice(request: Request, id: str) -> Response:
    invoice = await store.find("invoice", id)
    if invoice is None or not _allowed(request, _key_of(invoice.body["hosted_invoice_url"])):
        return _gone()
    return _page(f"Invoice {invoice.body['number']}", _invoice_table(invoice.body) + await _pay_form(invoice))


async def submit_invoice(request: Request, id: str, wall: int, rules: Rules) -> Response:
    """Pay it with the card on file; the one who presses the button passes the bank's check with it."""
    invoice = await store.find("invoice", id)
    if invoice is None or not _allowed(request, _key_of(invoice.body["hosted_invoice_url"])):
        return _gone()
    card = await invoicing.usable_card(invoice)
    said = CARDS[card.hidden["token"]].at_charge if card else "no_card"
    moment = await _moment(invoice, wall, rules)
    if invoice.body["status"] == "open" and said == AUTHENTICATE:
        await invoicing.settle(invoice, moment, card)
    elif invoice.body["status"] == "open" and card:
        await invoicing.pay(invoice, moment, card=None)
    invoice = await store.get("invoice", id)
    return _page(f"Invoice {invoice.body['number']}", _invoice_table(invoice.body) + await _pay_form(invoice))


async def show_portal(request: Request, id: str) -> Response:
    session = await store.find("billing_portal.session", id)
    if session is None or not _allowed(request, session.hidden["key"]):
        return _gone()
    rows = [row.body for row in await store.listing("invoice", customer=session.customer) if row.body["number"]]
    lines = "".join(f"<tr><td>{_link(row)}<td>{row['status']}<td>{_money(row['amount_due'])}" for row in rows)
    return _page("Invoices", f"<table><tr><th>Number<th>Status<th>Amount{lines}</table>")


async def submit_portal(request: Request, id: str, wall: int, rules: Rules) -> Response:
    return _gone()


def _card_form(button: str) -> str:
    options = "".join(f"<option>{escape(name)}</option>" for name in CARDS)
    return (
        f"<form method=post><label>Test card <select name=card>{options}</select></label> <button>{button}</button></form>"
        "<p class=note>This server's billing runs in a sandbox: no card number is asked for, and nothing is charged.</p>"
    )


def _check_page(title: str, *, done: bool) -> Response:
    if done:
        return _page(title, "<p>Your bank has confirmed the card. You can close this page.</p>")
    form = "<form method=post><button name=answer value=yes>It is me</button></form>"
    return _page(title, f"<p>Your bank wants to know if it is you.</p>{form}")


def _invoice_table(invoice: Body) -> str:
    lines = "".join(f"<tr><td>{escape(line['description'])}<td>{_money(line['amount'])}" for line in invoice["lines"]["data"])
    sums = [("Total", invoice["total"]), ("Credit used", invoice["amount_due"] - invoice["total"]), ("Amount due", invoice["amount_due"])]
    rows = "".join(f"<tr><th>{name}<th>{_money(amount)}" for name, amount in sums if amount or name != "Credit used")
    since = datetime.fromtimestamp(invoice["status_transitions"]["finalized_at"], UTC)
    email = escape(invoice["customer_email"] or "")
    return f"<p>{since:%d %B %Y} · {email} · {invoice['status']}</p><table>{lines}{rows}</table>"


async def _pay_form(invoice: SandboxObject) -> str:
    if invoice.body["status"] != "open":
        return ""
    card: Any = await invoicing.usable_card(invoice)
    if card is None:
        return "<p class=note>There is no card on file to pay it with.</p>"
    return f"<form method=post><button>Pay with the card ending in {card.body['card']['last4']}</button></form>"


def _link(invoice: Body) -> str:
    return f"<a href='{escape(invoice['hosted_invoice_url'])}'>{escape(invoice['number'])}</a>"


def _money(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}${abs(cents) / 100:,.2f}"


def _key_of(url: str | None) -> str:
    return (url or "").partition("key=")[2]


def _allowed(request: Request, key: str) -> bool:
    return bool(key) and hmac.compare_digest(request.query_params.get("key", "").encode(), key.encode())


async def _moment(row: SandboxObject, wall: int, rules: Rules) -> Moment:
    return Moment(await clock.now_on(row.clock, wall), rules, wall)


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_MAX_BYTES:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _gone() -> Response:
    return _page("Not here", "<p>There is nothing at this address, or its time is over.</p>", 404)


def _page(title: str, content: str, status: int = 200) -> HTMLResponse:
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    return HTMLResponse(f"{head}<h1>{escape(title)}</h1>{content}", status, HEADERS)


PAGES: dict[str, tuple[Show, Submit]] = {
    "checkout": (show_checkout, submit_checkout),
    "setup": (show_setup, submit_setup),
    "invoices": (show_invoice, submit_invoice),
    "portal": (show_portal, submit_portal),
}
