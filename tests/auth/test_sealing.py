"""Sealed secrets: readable again in their own place with the same secret key, and nowhere else."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.keys import derive_key
from auth.sealing import SealBroken, Sealer

SEALER = Sealer("k" * 43)
HERE = "device/55ff6d04498b49aabbccdd01/secret"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_opens_unchanged(plain):
    assert SEALER.unseal(SEALER.seal(plain, context=HERE), context=HERE) == plain


def test_a_seal_hides_its_text_and_never_repeats():
    seals = {SEALER.seal("hunter2hunter2", context=HERE) for _ in range(100)}

    assert len(seals) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_=-]+", seal) for seal in seals)
    assert not any(b"hunter2" in urlsafe_b64decode(seal) for seal in seals)


def test_another_process_with_the_same_secret_opens_it():
    assert Sealer("k" * 43).unseal(SEALER.seal("s", context=HERE), context=HERE) == "s"


def test_another_secret_or_another_row_does_not_open_it():
    sealed = SEALER.seal("s", context=HERE)

    with pytest.raises(SealBroken):
        Sealer("j" * 43).unseal(sealed, context=HERE)
    with pytest.raises(SealBroken):
        SEALER.unseal(sealed, context="device/55ff6d04498b49aabbccdd02/secret")


@given(st.data())
def test_a_seal_with_one_bit_changed_does_not_open(data):
    raw = bytearray(urlsafe_b64decode(SEALER.seal("secret", context=HERE)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SealBroken):
        SEALER.unseal(urlsafe_b64encode(raw).decode(), context=HERE)


@pytest.mark.parametrize("damaged", ["", "AQ==", "AQ", "é", "not base64!", "AQ" + "A" * 30])
def test_damage_is_told_by_type(damaged):
    with pytest.raises(SealBroken):
        SEALER.unseal(damaged, context=HERE)


def test_each_purpose_has_a_key_of_its_own():
    keys = {derive_key("k" * 43, purpose) for purpose in ("sealing", "signed-urls", "cursors")}

    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}


def test_an_empty_secret_makes_no_key():
    with pytest.raises(ValueError, match="empty secret_key"):
        Sealer("")
