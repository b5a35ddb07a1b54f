"""What was read of a client's values is found again for the same ones, and for no others."""

from typing import Any

import pytest

from schema.remembering import LETTERS_MAX, VALUES_MAX, Remembered


def made(values: list[list[Any]]) -> list[int]:
    """For each set of values, how many of those before it were read anew."""
    remembered, calls = Remembered[int](), 0

    def read() -> int:
        nonlocal calls
        calls += 1
        return calls

    return [remembered.of(each, read) for each in values]


def test_the_same_values_are_read_once() -> None:
    assert made([["a", 1], ["a", 1], ["a", 2], ["a", 1]]) == [1, 1, 2, 1]


def test_equal_values_of_another_type_are_others() -> None:
    assert made([[1], [True], [1.0], [None], [1]]) == [1, 2, 3, 4, 1]


@pytest.mark.parametrize("value", [[1], {"a": 1}, "a" * (LETTERS_MAX + 1)], ids=["a list", "an object", "a long text"])
def test_what_may_be_large_is_read_each_time(value: object) -> None:
    assert made([[value], [value]]) == [1, 2]


def test_only_so_many_are_kept() -> None:
    values = [[number] for number in range(VALUES_MAX + 1)]

    assert made([*values, [VALUES_MAX], [0]])[-2:] == [VALUES_MAX + 1, VALUES_MAX + 2]
