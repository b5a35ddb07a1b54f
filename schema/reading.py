"""How a field says that it is answered: kept with the field, so that its resolver and the compiler read the same sentence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from strawberry import UNSET

READING = "reading"  # the key in a field's metadata


@dataclass(frozen=True, slots=True)
class Attribute:
    """By an attribute of the row."""

    name: str

    def of(self, row: Any) -> Any:
        return getattr(row, self.name)


@dataclass(frozen=True, slots=True)
class Computed:
    """By a function of the row alone that waits for nothing."""

    of: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """By a door: `door(row, context, **arguments)`, a root field's without the row. What the client left out is None."""

    door: Callable[..., Any]
    arguments: tuple[str, ...] = ()

    def named(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The door's arguments, of what the client sent."""
        return {name: None if given.get(name, UNSET) is UNSET else given[name] for name in self.arguments}

    def answer(self, row: Any, context: Any, named: Mapping[str, Any]) -> Any:
        return self.door(context, **named) if row is None else self.door(row, context, **named)


Reading: TypeAlias = Attribute | Computed | Asked
