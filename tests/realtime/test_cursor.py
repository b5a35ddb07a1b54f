"""A cursor is opaque, exact and refuses what we never said."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidInput
from realtime.cursor import Cursor, parse

A_CURSOR = Cursor("00112233aabbccdd", 41, -7)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_a_cursor_comes_back_as_it_was(epoch: int, position: int, tag: int) -> None:
    cursor = Cursor(f"{epoch:016x}", position, tag)

    assert parse(str(cursor)) == cursor
    assert len(str(cursor)) == 27


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0",
        "-" * 26,
        "-" * 28,
        "=" * 27,
        "é" * 27,
        " " * 27,
        str(A_CURSOR)[:-1] + "!",
        str(A_CURSOR).swapcase()[:-1] + "=",
        "/" * 27,
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_a_second_spelling_of_the_same_bytes_is_refused() -> None:
    """Base64 leaves two bits of the last character unused: clients that compare texts must be able to."""
    text = str(A_CURSOR)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]

    with pytest.raises(InvalidInput):
        parse(other)


def test_a_negative_position_is_refused() -> None:
    with pytest.raises(InvalidInput):
        parse(str(Cursor("00112233aabbccdd", -1, 5)))


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert str(parse(text)) == text
