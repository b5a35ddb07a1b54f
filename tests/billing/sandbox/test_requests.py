"""What the sandbox takes and what it refuses: names and types out of the SDK, keys, idempotency, and nothing ignored."""

import asyncio
import socket
import typing

import httpx
import pytest
import stripe
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from typing_extensions import is_typeddict

from billing.sandbox import routes, validator
from billing.sandbox.app import Sandbox
from billing.sandbox.client import KEY
from billing.sandbox.wire import Fault, decode
from models.sandbox_billing import SandboxObject, SandboxReply
from models.transaction import transaction
from tests.billing.sandbox.account import Account
from tests.billing.sandbox.conftest import Wall

NUMBER = "4242424242424242"


def browser(sandbox: Sandbox, key: str = KEY) -> httpx.AsyncClient:
    """Without the SDK: whoever writes what he likes."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/x-www-form-urlencoded"} if key else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=sandbox), base_url="http://sandbox", headers=headers)


# ── the wire ──
def test_brackets_nest() -> None:
    assert decode("items[0][price]=a&items[0][quantity]=2&metadata[org_id]=7&expand[]=x&expand[]=y&name=") == {
        "items": {"0": {"price": "a", "quantity": "2"}},
        "metadata": {"org_id": "7"},
        "expand": {"0": "x", "1": "y"},
        "name": "",
    }


@pytest.mark.parametrize(
    "text",
    ["a[b=1", "a]b[=1", "[a]=1", "a[b]c=1", "a=1&a=2", "a=1&a[b]=2", "a[b]=1&a=2", "a", "a=%ff", f"a{'[b]' * 9}=1", "a=1&" * 1001],
)
def test_what_is_no_form_is_refused(text: str) -> None:
    with pytest.raises(Fault) as refused:
        decode(text)

    assert refused.value.status == 400


# ── the validator ──
def test_every_endpoint_of_the_sdk_is_known_and_every_type_of_it_can_be_read() -> None:
    seen: set[type] = set()

    def walk(kind: typing.Any, module: str) -> None:
        kind = validator._resolved(kind, module)
        if is_typeddict(kind):
            if kind not in seen:
                seen.add(kind)
                for name, inner in validator._annotations(kind).items():
                    if name not in validator.OPTIONS:
                        walk(inner, kind.__module__)
        elif typing.get_origin(kind) is not typing.Literal:
            for inner in typing.get_args(kind):
                walk(inner, module)

    for verb, path in validator.endpoints():
        if known := validator.parameters(verb, path):
            walk(known, known.__module__)

    assert len(validator.endpoints()) == 647
    assert len(seen) == 4257


def test_every_route_of_the_sandbox_is_an_endpoint_of_the_sdk_and_plays_parameters_it_has() -> None:
    unknown = []
    for route in routes.ROUTES:
        known = validator.parameters(route.verb, route.template)
        names = validator._annotations(known) if known else {}
        unknown += [f"{route.template}: {name}" for name in route.played if name.split(".")[0] not in names]

    # A DELETE that takes nothing, and what browsers send along, are the exceptions.
    assert [each for each in unknown if not each.endswith((": expand", ": client_secret"))] == []


@pytest.mark.parametrize(
    ("verb", "path", "text", "param", "code"),
    [
        ("post", "/v1/subscriptions", "items[0][prise]=x", "items[0][prise]", "parameter_unknown"),
        ("post", "/v1/subscriptions", "items[a][price]=x", "items", None),
        ("post", "/v1/subscriptions", "items=x", "items", None),
        ("post", "/v1/subscriptions", "trial_period_days=thirty", "trial_period_days", "parameter_invalid_integer"),
        ("post", "/v1/subscriptions", "off_session=1", "off_session", None),
        ("post", "/v1/subscriptions", "payment_behavior=hope", "payment_behavior", None),
        ("post", "/v1/subscriptions", "api_key=sk_test_1", "api_key", "parameter_unknown"),
        ("post", "/v1/subscriptions/{}", "billing_cycle_anchor=now", "billing_cycle_anchor", None),
        ("post", "/v1/setup_intents", "payment_method_types[0]=card", "payment_method_types", "parameter_unknown"),
        ("post", "/v1/prices", "unit_amount=1", "currency", "parameter_missing"),
        ("post", "/v1/customers", "address[line9]=x", "address[line9]", "parameter_unknown"),
        ("post", "/v1/customers", "email[0]=x", "email", None),
    ],
)
def test_what_the_sdk_could_not_have_sent_is_refused(verb: str, path: str, text: str, param: str, code: str | None) -> None:
    with pytest.raises(Fault) as refused:
        validator.read(verb, path, decode(text))

    assert (refused.value.error["param"], refused.value.error.get("code")) == (param, code)


def test_values_get_their_types() -> None:
    text = "items[0][price]=p&items[0][quantity]=2&off_session=true&trial_end=now&metadata[1]=x&cancel_at=17"

    assert validator.read("post", "/v1/subscriptions", decode(text)) == {
        "items": [{"price": "p", "quantity": 2}],
        "off_session": True,
        "trial_end": "now",
        "metadata": {"1": "x"},
        "cancel_at": 17,
    }


# ── honest refusals ──
async def test_what_the_real_thing_takes_and_the_sandbox_does_not_play_is_refused_and_nothing_is_made(account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await account.v1.customers.create_async({"email": "ann@example.com", "balance": -500})

    assert (refused.value.code, refused.value.param) == ("sandbox_not_played", "balance")
    assert await SandboxObject.all().count() == 0


async def test_an_endpoint_that_is_not_played_is_not_there(account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await account.v1.coupons.create_async({"percent_off": 10, "duration": "once"})

    assert (refused.value.http_status, "Unrecognized request URL" in str(refused.value)) == (404, True)


async def test_a_card_number_is_refused_and_kept_nowhere(account: Account) -> None:
    card = {"number": NUMBER, "exp_month": 1, "exp_year": 2030, "cvc": "123"}

    with pytest.raises(stripe.InvalidRequestError) as refused:
        await account.v1.payment_methods.create_async({"type": "card", "card": card})

    assert refused.value.code == "sandbox_not_played"
    assert NUMBER not in str(refused.value)
    assert (await SandboxObject.all().count(), await SandboxReply.all().count()) == (0, 0)


@pytest.mark.parametrize("key", ["", "sk_live_1", "pk_test_1", "nonsense"])
async def test_a_key_that_is_no_secret_test_key_is_refused(sandbox: Sandbox, key: str) -> None:
    async with browser(sandbox, key) as client:
        answer = await client.post("/v1/customers", content="email=ann@example.com")

    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_request_error")
    assert await SandboxObject.all().count() == 0


async def test_a_browser_confirms_with_the_client_secret_and_a_publishable_key(sandbox: Sandbox, account: Account) -> None:
    payer = await account.payer(card=None)
    intent = await account.v1.setup_intents.create_async({"customer": payer.id})
    path, secret = f"/v1/setup_intents/{intent['id']}/confirm", intent["client_secret"]

    async with browser(sandbox, "pk_test_1") as client:
        stranger = await client.post(path, content=f"payment_method=pm_card_visa&client_secret={intent['id']}_secret_guess")
        done = await client.post(path, content=f"payment_method=pm_card_visa&client_secret={secret}")
        other = await client.post("/v1/customers", content=f"client_secret={secret}")

    assert (stranger.status_code, done.json()["status"], other.status_code) == (400, "succeeded", 401)


# ── idempotency ──
async def test_a_repeated_request_gets_the_first_answer_also_when_that_was_a_refusal(account: Account) -> None:
    payer = await account.payer("pm_card_chargeCustomerFail")
    made = await account.subscribe(payer, pay=False)
    invoice, key = made["latest_invoice"]["id"], {"idempotency_key": "pay:1"}

    for _ in range(3):
        with pytest.raises(stripe.CardError):
            await account.v1.invoices.pay_async(invoice, {}, key)

    assert (await account.v1.invoices.retrieve_async(invoice))["attempt_count"] == 1
    assert (await account.told(payer)).count("invoice.payment_failed") == 1


async def test_a_request_refused_for_its_form_does_not_use_its_key_up(account: Account) -> None:
    key = {"idempotency_key": "customer:1"}
    with pytest.raises(stripe.InvalidRequestError):
        await account.v1.customers.create_async({"shoe_size": "44"}, key)

    made = await account.v1.customers.create_async({"email": "ann@example.com"}, key)

    assert made["id"].startswith("cus_")


async def test_a_key_is_forgotten_after_a_day_and_an_event_after_thirty(account: Account, sandbox: Sandbox, wall: Wall) -> None:
    key = {"idempotency_key": "customer:3"}
    first = await account.v1.customers.create_async({}, key)

    wall.at += 86_401
    await sandbox.run_due()
    second = await account.v1.customers.create_async({}, key)
    events = len((await account.v1.events.list_async()).data)
    wall.at += 30 * 86_400 - 1
    await sandbox.run_due()

    assert first["id"] != second["id"]
    assert (events, len((await account.v1.events.list_async()).data)) == (2, 1)


async def test_one_key_sent_fifty_times_at_once_makes_one_object(account: Account) -> None:
    asked, key = {"email": "ann@example.com"}, {"idempotency_key": "customer:2"}

    made = await asyncio.gather(*(account.v1.customers.create_async(asked, key) for _ in range(50)))

    assert len({customer["id"] for customer in made}) == 1
    assert await SandboxObject.filter(type="customer").count() == 1


async def test_a_call_inside_a_transaction_is_a_mistake_of_ours_and_says_so(
    sandbox: Sandbox, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    async with transaction():
        with pytest.raises(stripe.APIError):
            await account.v1.customers.create_async({}, {"max_network_retries": 0})

    assert "belongs after the commit" in caplog.text
    assert await SandboxObject.all().count() == 0


async def test_lists_are_newest_first_in_pages(account: Account) -> None:
    made = [(await account.v1.products.create_async({"name": str(number)}))["id"] for number in range(5)]

    first = await account.v1.products.list_async({"limit": 2})
    second = await account.v1.products.list_async({"limit": 2, "starting_after": first.data[-1]["id"]})
    back = await account.v1.products.list_async({"limit": 2, "ending_before": second.data[0]["id"]})
    everything = [product["id"] async for product in first.auto_paging_iter()]

    assert [product["id"] for product in first.data] == [made[4], made[3]]
    assert ([product["id"] for product in second.data], second.has_more) == ([made[2], made[1]], True)
    assert [product["id"] for product in back.data] == [made[4], made[3]]
    assert everything == made[::-1]


async def test_over_a_real_socket_mounted_below_a_path(sandbox: Sandbox) -> None:
    """As another process sees it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[Mount("/billing-sandbox", sandbox)]), log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/billing-sandbox"
    v1 = stripe.StripeClient("sk_test_1", http_client=stripe.HTTPXClient(timeout=10), base_addresses={"api": address}).v1

    made = await v1.customers.create_async({"email": "ann@example.com"})
    found = await v1.customers.retrieve_async(made.id)

    server.should_exit = True
    await serving
    assert found.email == "ann@example.com"
