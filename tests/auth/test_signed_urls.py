"""Download tickets: for one device, one update, a short time."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.signed_urls import UrlSigner

SIGNER = UrlSigner("k" * 43)
NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
PARTS = ("firmware", "55ff6d04498b49aabbccdd01", "17")
TICKET = SIGNER.sign(PARTS, expires_at=NOW + timedelta(minutes=15))


def test_a_ticket_is_short_and_url_safe():
    assert re.fullmatch(r"1735787945\.[A-Za-z0-9_-]{22}", TICKET)


def test_a_ticket_holds_until_it_expires_in_every_process_with_the_secret():
    expires_at = NOW + timedelta(minutes=15)

    assert SIGNER.verify(PARTS, TICKET, now=NOW)
    assert UrlSigner("k" * 43).verify(PARTS, TICKET, now=expires_at - timedelta(microseconds=1))
    assert not SIGNER.verify(PARTS, TICKET, now=expires_at)


def test_another_secret_did_not_sign_it():
    assert not UrlSigner("j" * 43).verify(PARTS, TICKET, now=NOW)


@pytest.mark.parametrize(
    "parts",
    [
        ("firmware", "55ff6d04498b49aabbccdd02", "17"),  # another device
        ("firmware", "55ff6d04498b49aabbccdd01", "18"),  # another update
        ("imports", "55ff6d04498b49aabbccdd01", "17"),
        ("firmware", "55ff6d04498b49aabbccdd011", "7"),  # the same letters, cut elsewhere
        ("firmware", "55ff6d04498b49aabbccdd01"),
        ("firmware", "55ff6d04498b49aabbccdd01", "17", ""),
        ("firmware", "\ud800", "17"),
    ],
)
def test_a_ticket_is_for_exactly_one_device_and_update(parts):
    assert not SIGNER.verify(parts, TICKET, now=NOW)


def test_a_ticket_cannot_be_prolonged():
    expiry, _, signature = TICKET.partition(".")

    assert not SIGNER.verify(PARTS, f"{int(expiry) + 1}.{signature}", now=NOW)
    assert not SIGNER.verify(PARTS, f"0{expiry}.{signature}", now=NOW)  # the same number, another text


@given(place=st.integers(0, len(TICKET) - 1), character=st.characters())
def test_one_wrong_character_is_refused(place, character):
    changed = TICKET[:place] + character + TICKET[place + 1 :]

    assert SIGNER.verify(PARTS, changed, now=NOW) is (changed == TICKET)


@pytest.mark.parametrize("ticket", ["", ".", "1.", ".a", "²." + "A" * 22, "-1." + "A" * 22, "9" * 5000, "\ud800.\ud800"])
def test_anything_else_is_refused_without_a_crash(ticket):
    assert not SIGNER.verify(PARTS, ticket, now=NOW)
