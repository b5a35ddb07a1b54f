"""New objects in the vendor's form: every field its types require, and null for what nobody here uses."""

from datetime import UTC, datetime

from billing.sandbox.charging import Card
from billing.sandbox.store import chance, fresh_id
from billing.sandbox.wire import Body, nulls, page

NO_TAX: Body = {"disabled_reason": None, "enabled": False, "liability": None}
CURRENCY = "usd"
SETUP_TTL_S = 86400  # seconds a hosted page waits
NULL_IN_A_SESSION = nulls(
    """
    adaptive_pricing after_expiration allow_promotion_codes amount_subtotal amount_total billing_address_collection client_secret
    collected_information consent consent_collection currency_conversion customer_account customer_creation customer_details
    customer_email discounts invoice invoice_creation locale origin_context payment_intent payment_link payment_method_collection
    payment_method_configuration_details recovered_from saved_payment_method_options shipping_address_collection shipping_cost
    submit_type subscription total_details
    """
)
NULL_IN_A_SUBSCRIPTION = nulls(
    """
    application application_fee_percent billing_cycle_anchor_config billing_thresholds cancel_at canceled_at customer_account
    days_until_due default_payment_method default_source ended_at latest_invoice next_pending_invoice_item_invoice on_behalf_of
    pause_collection pending_invoice_item_interval pending_setup_intent pending_update schedule transfer_data
    """
)
NULL_IN_A_PAYMENT = nulls(
    """
    application application_fee_amount automatic_payment_methods canceled_at cancellation_reason customer_account
    excluded_payment_method_types last_payment_error latest_charge next_action on_behalf_of payment_method
    payment_method_configuration_details processing receipt_email review setup_future_usage shipping source statement_descriptor
    statement_descriptor_suffix transfer_data transfer_group
    """
)
NULL_IN_A_SETUP = nulls(
    """
    application automatic_payment_methods cancellation_reason customer_account excluded_payment_method_types flow_directions
    last_setup_error latest_attempt mandate next_action on_behalf_of payment_method payment_method_configuration_details
    single_use_mandate
    """
)


def customer(given: Body, *, at: int, clock: str | None) -> Body:
    return {
        "id": fresh_id("cus"),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": at,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": given.get("description"),
        "discount": None,
        "email": given.get("email"),
        "invoice_prefix": chance(8).upper(),
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None},
        "livemode": False,
        "metadata": given.get("metadata") or {},
        "name": given.get("name"),
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": clock,
    }


def product(given: Body, *, at: int) -> Body:
    return {
        "id": given.get("id") or fresh_id("prod"),
        "object": "product",
        "active": given.get("active", True),
        "created": at,
        "default_price": None,
        "description": given.get("description"),
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": given.get("metadata") or {},
        "name": given["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": given.get("unit_label"),
        "updated": at,
        "url": None,
    }


def price(given: Body, product: str, *, at: int) -> Body:
    recurring = given.get("recurring")
    return {
        "id": fresh_id("price"),
        "object": "price",
        "active": given.get("active", True),
        "billing_scheme": "per_unit",
        "created": at,
        "currency": given["currency"],
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": given.get("lookup_key"),
        "metadata": given.get("metadata") or {},
        "nickname": given.get("nickname"),
        "product": product,
        "recurring": recurring
        and {
            "interval": recurring["interval"],
            "interval_count": recurring.get("interval_count", 1),
            "meter": None,
            "trial_period_days": None,
            "usage_type": "licensed",
        },
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": given["unit_amount"],
        "unit_amount_decimal": str(given["unit_amount"]),
    }


def plan(price: Body) -> Body:
    """The older face of a recurring price, still on every subscription item."""
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def payment_method(card: Card, customer: str | None, *, at: int) -> Body:
    made = datetime.fromtimestamp(at, UTC)
    return {
        "id": fresh_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {"address": _no_address(), "email": None, "name": None, "phone": None, "tax_id": None},
        "card": {
            "brand": card.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "unchecked"},
            "country": "US",
            "display_brand": card.brand,
            "exp_month": made.month,
            "exp_year": made.year + 1,
            "fingerprint": card.last4.rjust(16, "0"),
            "funding": "credit",
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": at,
        "customer": customer,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


def _no_address() -> Body:
    return nulls("city country line1 line2 postal_code state")


def setup_intent(given: Body, customer: str | None, *, at: int) -> Body:
    made = fresh_id("seti")
    return {
        "id": made,
        "object": "setup_intent",
        **NULL_IN_A_SETUP,
        "allowed_payment_method_types": given.get("allowed_payment_method_types"),
        "client_secret": f"{made}_secret_{chance()}",
        "created": at,
        "customer": customer,
        "description": given.get("description"),
        "livemode": False,
        "metadata": given.get("metadata") or {},
        "payment_method_options": {"card": {"mandate_options": None, "network": None, "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        "usage": given.get("usage", "off_session"),
    }


def payment_intent(amount: int, customer: str, *, at: int) -> Body:
    made = fresh_id("pi")
    return {
        "id": made,
        "object": "payment_intent",
        **NULL_IN_A_PAYMENT,
        "allowed_payment_method_types": ["card"],
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "capture_method": "automatic",
        "client_secret": f"{made}_secret_{chance()}",
        "confirmation_method": "automatic",
        "created": at,
        "currency": CURRENCY,
        "customer": customer,
        "description": "Subscription",
        "livemode": False,
        "metadata": {},
        "payment_method_options": {"card": {"installments": None, "network": None, "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }


def subscription_item(price: Body, quantity: int, subscription: str, *, start: int, end: int, at: int) -> Body:
    return {
        "id": fresh_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": at,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": {},
        "plan": plan(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
    }


def subscription(given: Body, customer: Body, *, at: int, trial_end: int | None, anchor: int) -> Body:
    missing_card = (given.get("trial_settings") or {}).get("end_behavior", {}).get("missing_payment_method", "create_invoice")
    mode = (given.get("billing_mode") or {}).get("type", "classic")
    return {
        "id": fresh_id("sub"),
        "object": "subscription",
        **NULL_IN_A_SUBSCRIPTION,
        "automatic_tax": NO_TAX,
        "billing_cycle_anchor": anchor,
        "billing_mode": {"flexible": {"proration_discounts": "included"} if mode == "flexible" else None, "type": mode, "updated_at": at},
        "billing_schedules": [],
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": at,
        "currency": CURRENCY,
        "customer": customer["id"],
        "default_tax_rates": [],
        "description": given.get("description"),
        "discounts": [],
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": page([], url="/v1/subscription_items"),
        "livemode": False,
        "metadata": given.get("metadata") or {},
        "payment_settings": {"payment_method_options": None, "payment_method_types": None, "save_default_payment_method": "off"},
        "start_date": at,
        "status": "trialing" if trial_end else "incomplete",
        "test_clock": customer["test_clock"],
        "trial_end": trial_end,
        "trial_settings": {"end_behavior": {"missing_payment_method": missing_card}},
        "trial_start": at if trial_end else None,
    }


def checkout_session(given: Body, customer: str | None, intent: str, *, at: int, page_url: str) -> Body:
    made = f"cs_test_{chance()}"
    return {
        "id": made,
        "object": "checkout.session",
        **NULL_IN_A_SESSION,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": given.get("cancel_url"),
        "client_reference_id": given.get("client_reference_id"),
        "created": at,
        "currency": given.get("currency"),
        "custom_fields": [],
        "custom_text": nulls("after_submit shipping_address submit terms_of_service_acceptance"),
        "customer": customer,
        "expires_at": given.get("expires_at") or at + SETUP_TTL_S,
        "livemode": False,
        "metadata": given.get("metadata") or {},
        "mode": "setup",
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "no_payment_required",
        "setup_intent": intent,
        "shipping_options": [],
        "status": "open",
        "success_url": given.get("success_url"),
        "ui_mode": "hosted_page",
        "url": f"{page_url}/checkout/{made}",
    }
