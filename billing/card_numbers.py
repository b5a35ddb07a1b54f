"""Card numbers never come in: what looks like one is refused before anything is kept or logged.

Source: billing, "Cards without card numbers", 4.
"""

import re
import unicodedata
from collections.abc import Iterable

from errors import CardNumberRefused

LENGTHS = range(13, 20)  # digits of a card number

# Digits with nothing but blanks and dashes between them.
_RUN = re.compile(r"\d(?:[\s\-\u2010-\u2015]*\d){12,}")
_GROUP = re.compile(r"\d+")


def refuse_card_numbers(fields: Iterable[tuple[str, object]]) -> None:
    """Raises CardNumberRefused naming the first field that holds one; its value is repeated nowhere."""
    for name, value in fields:
        if isinstance(value, str) and holds_card_number(value):
            raise CardNumberRefused("Never send a card number here: use createCardSetup, which keeps it away from us.", path=(name,))


def holds_card_number(text: str) -> bool:
    """Whether some digits in a row, blanks and dashes aside, are 13 to 19 and pass Luhn's check."""
    return any(_is_card(run) for run in _RUN.findall(unicodedata.normalize("NFKC", text)))


def _is_card(run: str) -> bool:
    """A run may have an expiry or a check code behind the number: every row of whole groups is looked at."""
    groups = _GROUP.findall(run)
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits += group
            if len(digits) > LENGTHS[-1]:
                break
            if len(digits) in LENGTHS and _passes_luhn(digits):
                return True
    return False


def _passes_luhn(digits: str) -> bool:
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
