"""Endpoints for what is sold and who listens: products, prices, events, webhook endpoints, test clocks."""

from billing.sandbox import clock, objects, store, subscriptions
from billing.sandbox.routes import LIST, Answer, Call, endpoint, listed
from billing.sandbox.wire import Body, Fault
from models.sandbox_billing import SandboxObject


@endpoint("post", "/v1/products", "id name active description metadata unit_label")
async def create_product(call: Call) -> Answer:
    if call.given.get("id") and await store.anything(call.given["id"]):
        raise Fault("Product already exists.", code="resource_already_exists", param="id")
    return await store.add(objects.product(call.given, at=call.wall))


@endpoint("get", "/v1/products/{}")
async def retrieve_product(call: Call) -> Answer:
    return await store.get("product", call.id)


@endpoint("get", "/v1/products", f"active ids {LIST}")
async def list_products(call: Call) -> Answer:
    rows = await store.listing("product")
    active, ids = call.given.get("active"), call.given.get("ids")
    return listed(call, [r for r in rows if active in (None, r.body["active"]) and (not ids or r.id in ids)])


@endpoint(
    "post",
    "/v1/prices",
    "active currency lookup_key metadata nickname product product_data.name product_data.metadata recurring.interval "
    "recurring.interval_count recurring.usage_type transfer_lookup_key unit_amount",
)
async def create_price(call: Call) -> Answer:
    given = call.given
    if given["currency"] != objects.CURRENCY or "unit_amount" not in given:
        raise Fault("This sandbox plays prices in usd with a unit_amount.", param="currency")
    if given.get("recurring", {}).get("usage_type", "licensed") != "licensed":
        raise Fault("This sandbox plays licensed prices only.", param="recurring[usage_type]")
    if key := given.get("lookup_key"):
        await _free_lookup_key(key, transfer=given.get("transfer_lookup_key", False))
    if "product_data" in given:
        product = await store.add(objects.product(given["product_data"], at=call.wall))
    else:
        product = await store.get("product", given.get("product"), param="product")
    return await store.add(objects.price(given, product.id, at=call.wall))


async def _free_lookup_key(key: str, *, transfer: bool) -> None:
    for row in await store.listing("price"):
        if row.body["lookup_key"] == key:
            if not transfer:
                raise Fault(f"A price (`{row.id}`) already uses that lookup key.", param="lookup_key")
            row.body["lookup_key"] = None
            await store.keep(row)


@endpoint("post", "/v1/prices/{}", "active lookup_key metadata nickname transfer_lookup_key")
async def update_price(call: Call) -> Answer:
    row = await store.get("price", call.id)
    if key := call.given.get("lookup_key"):
        await _free_lookup_key(key, transfer=call.given.get("transfer_lookup_key", False))
    row = await store.get("price", call.id)
    row.body |= {key: call.given[key] or None for key in ("lookup_key", "nickname") if key in call.given}
    row.body |= {"active": call.given.get("active", row.body["active"]), "metadata": subscriptions.merged(row.body["metadata"], call.given)}
    await store.keep(row)
    return row


@endpoint("get", "/v1/prices/{}")
async def retrieve_price(call: Call) -> Answer:
    return await store.get("price", call.id)


@endpoint("get", "/v1/prices", f"active lookup_keys product {LIST}")
async def list_prices(call: Call) -> Answer:
    given = call.given
    return listed(call, [row for row in await store.listing("price") if _price_fits(row.body, given)])


def _price_fits(price: Body, given: Body) -> bool:
    keys = given.get("lookup_keys")
    return bool(
        given.get("active") in (None, price["active"])
        and given.get("product") in (None, price["product"])
        and (not keys or price["lookup_key"] in keys)
    )


@endpoint("get", "/v1/events/{}")
async def retrieve_event(call: Call) -> Answer:
    return await store.get("event", call.id)


@endpoint("get", "/v1/events", f"created type types {LIST}")
async def list_events(call: Call) -> Answer:
    wanted = call.given.get("types") or [call.given.get("type")]
    rows = [row for row in await store.listing("event") if wanted == [None] or row.body["type"] in wanted]
    return listed(call, [row for row in rows if within(row.created, call.given.get("created"))])


def within(moment: int, wanted: int | Body | None) -> bool:
    """`created`: a moment, or gt, gte, lt, lte."""
    if not isinstance(wanted, dict):
        return wanted in (None, moment)
    return bool(
        moment > wanted.get("gt", -1)
        and moment >= wanted.get("gte", 0)
        and moment < wanted.get("lt", moment + 1)
        and moment <= wanted.get("lte", moment)
    )


@endpoint("post", "/v1/webhook_endpoints", "url enabled_events api_version description metadata")
async def create_webhook_endpoint(call: Call) -> Answer:
    secret = f"whsec_{store.chance(32)}"
    row = await add_webhook_endpoint(call.given, secret, call.wall)
    told: Body = row.body | {"secret": secret}  # once
    return told


async def add_webhook_endpoint(given: Body, secret: str, wall: int) -> SandboxObject:
    body: Body = {
        "id": store.fresh_id("we"),
        "object": "webhook_endpoint",
        "api_version": given.get("api_version"),
        "application": None,
        "created": wall,
        "description": given.get("description"),
        "enabled_events": given["enabled_events"],
        "livemode": False,
        "metadata": given.get("metadata") or {},
        "status": "enabled",
        "url": given["url"],
    }
    return await store.add(body, hidden={"secret": secret})


@endpoint("get", "/v1/webhook_endpoints/{}")
async def retrieve_webhook_endpoint(call: Call) -> Answer:
    return await store.get("webhook_endpoint", call.id)


@endpoint("get", "/v1/webhook_endpoints", LIST)
async def list_webhook_endpoints(call: Call) -> Answer:
    return listed(call, await store.listing("webhook_endpoint"))


@endpoint("post", "/v1/webhook_endpoints/{}", "url enabled_events disabled description metadata")
async def update_webhook_endpoint(call: Call) -> Answer:
    row = await store.get("webhook_endpoint", call.id)
    row.body |= {key: call.given[key] for key in ("url", "enabled_events", "description") if key in call.given}
    row.body["metadata"] = subscriptions.merged(row.body["metadata"], call.given)
    if "disabled" in call.given:
        row.body["status"] = "disabled" if call.given["disabled"] else "enabled"
    await store.keep(row)
    return row


@endpoint("delete", "/v1/webhook_endpoints/{}")
async def delete_webhook_endpoint(call: Call) -> Answer:
    row = await store.get("webhook_endpoint", call.id)
    await store.forget(row)
    return {"id": row.id, "object": "webhook_endpoint", "deleted": True}


@endpoint("post", "/v1/test_helpers/test_clocks", "frozen_time name")
async def create_test_clock(call: Call) -> Answer:
    row = await store.add(clock.test_clock(call.given, wall=call.wall))
    row.clock = row.id
    await store.keep(row)
    return row


@endpoint("get", "/v1/test_helpers/test_clocks/{}")
async def retrieve_test_clock(call: Call) -> Answer:
    return await store.get(clock.TEST_CLOCK, call.id)


@endpoint("get", "/v1/test_helpers/test_clocks", LIST)
async def list_test_clocks(call: Call) -> Answer:
    return listed(call, await store.listing(clock.TEST_CLOCK))


@endpoint("post", "/v1/test_helpers/test_clocks/{}/advance", "frozen_time")
async def advance_test_clock(call: Call) -> Answer:
    row = await store.get(clock.TEST_CLOCK, call.id)
    await clock.begin(row, call.given["frozen_time"], call.rules, call.wall)
    return row


@endpoint("delete", "/v1/test_helpers/test_clocks/{}")
async def delete_test_clock(call: Call) -> Answer:
    row = await store.get(clock.TEST_CLOCK, call.id)
    await SandboxObject.filter(clock=row.id).delete()  # its customers and all they had go with it
    return {"id": row.id, "object": clock.TEST_CLOCK, "deleted": True}
