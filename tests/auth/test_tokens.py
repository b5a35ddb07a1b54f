"""Tokens: their shape, their check digits, and what is kept of them."""

import string
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.tokens import ALPHABET, Kind, digest, kind_of, matches, mint, well_formed

# Written down, so that a change of format shows here and not as refused tokens of users.
KNOWN = "flp_0123456789ABCDEFGHIJKLMNOPQRSTUV4HVRGT"


def test_the_format_is_the_one_that_tokens_out_there_have():
    assert kind_of(KNOWN) is Kind.ACCESS_TOKEN


@pytest.mark.parametrize("kind", Kind)
def test_a_minted_token_is_42_characters_and_tells_its_kind(kind):
    minted = mint(kind)

    assert len(minted.text) == 42
    assert minted.text.startswith(f"{kind.value}_")
    assert kind_of(minted.text) is kind
    assert minted.shown_prefix == minted.text[:8]


def test_prefixes_are_three_letters_each_used_once():
    assert len({kind.value for kind in Kind}) == len(list(Kind)) == 9
    assert all(len(kind.value) == 3 and kind.value.startswith("fl") for kind in Kind)


def test_at_least_160_random_bits_stay_unknown_to_one_who_saw_the_shown_prefix():
    assert len(ALPHABET) ** (32 - 4) > 2**160


def test_a_thousand_tokens_are_a_thousand_tokens():
    assert len({mint(Kind.SESSION).text for _ in range(1000)}) == 1000


def test_only_the_sha256_is_kept():
    minted = mint(Kind.SESSION)

    assert minted.hash == sha256(minted.text.encode()).hexdigest() == digest(minted.text)
    assert matches(minted.text, minted.hash)
    assert not matches(mint(Kind.SESSION).text, minted.hash)


def test_a_printed_token_does_not_show_itself():
    minted = mint(Kind.SESSION)

    assert minted.text not in repr(minted) and minted.hash not in repr(minted)


@given(place=st.integers(0, 41), character=st.sampled_from(string.ascii_letters + string.digits))
def test_one_wrong_character_is_always_noticed(place, character):
    changed = KNOWN[:place] + character + KNOWN[place + 1 :]

    assert well_formed(changed) is (changed == KNOWN)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.ACCESS_TOKEN])
def test_a_token_with_another_kinds_prefix_is_refused(kind):
    assert not well_formed(kind.value + KNOWN[3:])


@pytest.mark.parametrize(
    "text", ["", "flp_", KNOWN + "\n", " " + KNOWN, KNOWN[:-1], KNOWN + "0", KNOWN.upper(), "flp_" + "é" * 38, "x" * 1_000_000, "\ud800"]
)
def test_anything_else_is_refused_without_a_crash(text):
    assert kind_of(text) is None
    assert len(digest(text)) == 64
