"""The test cards by name, and what each answers when it is set up or charged. No number ever comes here."""

from dataclasses import dataclass

from billing.sandbox.wire import Body

# What a bank can say besides yes.
AUTHENTICATE = "authenticate"


@dataclass(frozen=True)
class Card:
    """What the bank says: "" = yes, "authenticate" = after a check by its holder, else the decline code."""

    brand: str
    last4: str
    at_setup: str = ""
    at_charge: str = ""


CARDS = {
    "pm_card_visa": Card("visa", "4242"),
    "pm_card_mastercard": Card("mastercard", "4444"),
    "pm_card_amex": Card("amex", "0005"),
    "pm_card_chargeCustomerFail": Card("visa", "0341", at_charge="generic_decline"),
    "pm_card_visa_chargeDeclined": Card("visa", "0002", at_setup="generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Card("visa", "9995", at_setup="insufficient_funds"),
    "pm_card_visa_chargeDeclinedLostCard": Card("visa", "9987", at_setup="lost_card"),
    "pm_card_visa_chargeDeclinedStolenCard": Card("visa", "9979", at_setup="stolen_card"),
    "pm_card_authenticationRequired": Card("visa", "3184", at_setup=AUTHENTICATE, at_charge=AUTHENTICATE),
    "pm_card_authenticationRequiredOnSetup": Card("visa", "3155", at_setup=AUTHENTICATE),
}

NO_CARD = (
    "This customer has no attached payment source or default payment method. Please consider adding a default payment method. For more "
    "information, visit https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority."
)
SENTENCES = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "lost_card": "Your card was declined.",
    "stolen_card": "Your card was declined.",
}


def declined(decline_code: str, *, payment_method: Body | None = None) -> Body:
    """The error of a decline: the body of a 402, and the last error of an intent."""
    error: Body = {
        "code": "card_declined",
        "decline_code": decline_code,
        "doc_url": "https://stripe.com/docs/error-codes/card-declined",
        "message": SENTENCES[decline_code],
        "type": "card_error",
    }
    return error | ({"payment_method": payment_method} if payment_method else {})


def action_required(subject: str) -> Body:
    """The error of a payment whose holder must pass the bank's check first. `subject`: invoice | subscription."""
    return {
        "code": f"{subject}_payment_intent_requires_action",
        "message": "This payment requires additional user action before it can be completed successfully. Payment can be completed "
        "using the PaymentIntent associated with the invoice.",
        "type": "card_error",
    }
