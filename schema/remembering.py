"""What was read of a client's values, for when the same come again: most requests differ from an earlier one in nothing, or in a cursor."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

VALUES_MAX = 100  # sets of them, remembered at one place
LETTERS_MAX = 200  # of a text that is remembered: a cursor, an id, a name


class Remembered(Generic[T]):
    """What `make` makes of values, each of which is one string, number, member of an enum or nothing at all."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], T] = {}

    def of(self, values: list[Any], make: Callable[[], T]) -> T:
        """Lists, objects and long texts are not remembered, so that what is stays small."""
        for value in values:
            if isinstance(value, dict | list) or (isinstance(value, str) and len(value) > LETTERS_MAX):
                return make()
        key = (*values, *map(type, values))  # 1 and true are equal, and not the same
        if key not in self._known:
            if len(self._known) >= VALUES_MAX:
                self._known.clear()
            self._known[key] = make()
        return self._known[key]
