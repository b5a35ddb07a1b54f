"""Card numbers are recognized however they are written, and other numbers are not."""

import pytest

from billing.card_numbers import holds_card_number, refuse_card_numbers
from errors import CardNumberRefused


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424242",
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "4 2 4 2 4 2 4 2 4 2 4 2 4 2 4 2",
        "my card is 5555555555554444, please",
        "378282246310005",  # 15 digits
        "4222222222222",  # 13 digits
        "6304000000000000000",  # 19 digits
        "4242 4242 4242 4242 12 345",  # expiry and check code behind it
        "01 4242424242424242",  # something before it
        "\uff14\uff12\uff14\uff12" * 4,  # full-width digits
        "4242\u00a04242\u00a04242\u00a04242",  # blanks that do not break
        "4242\u20134242\u20134242\u20134242",  # dashes of a typesetter
    ],
)
def test_a_card_number_is_recognized(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Acme",
        "4242424242424243",  # fails Luhn
        "424242424242",  # 12 digits
        "42424242424242424242",  # 20 digits
        "4242,4242,4242,4242",
        "pm_card_visa",
        "Q2FyZFNldHVwOjE",
    ],
)
def test_what_is_no_card_number_passes(text: str) -> None:
    assert not holds_card_number(text)


def test_the_refusal_names_the_field_and_never_the_number() -> None:
    with pytest.raises(CardNumberRefused) as refused:
        refuse_card_numbers([("organization", "acme"), ("reason", "4242 4242 4242 4242"), ("seats", 3)])

    assert refused.value.path == ("reason",)
    assert "4242" not in repr(refused.value.args) + refused.value.message
