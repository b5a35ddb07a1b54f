"""Which subscriptions have the same answers: what of an operation decides them, apart from the place where its client begins."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

from graphql import (
    SKIP,
    FieldNode,
    GraphQLNamedType,
    GraphQLSchema,
    TypeInfo,
    TypeInfoVisitor,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    VisitorAction,
    visit,
)

from transport.documents import Prepared
from transport.gate import Asked

PLACES = ("after", "stream")  # arguments that say where a stream begins, and not what is in it


class Likeness(NamedTuple):
    """Subscriptions with an equal key have the same answers, if their viewers see the same.

    `looks`: the operation shows more than what stands in the log, and so depends on who asks.
    """

    key: tuple[str, str | None, str]
    looks: bool


def likeness(asked: Asked, prepared: Prepared, schema: GraphQLSchema, of_the_log: Collection[str]) -> Likeness:
    """`of_the_log` names the types whose own fields are the same for everybody who may see them at all."""
    seen = _Seen(TypeInfo(schema), schema.subscription_type, of_the_log)
    visit(prepared.document, TypeInfoVisitor(seen.types, seen))
    places = {name for name in seen.places if seen.used[name] == 1}  # a variable that is used elsewhere too decides more
    deciding = {name: value for name, value in (asked.variables or {}).items() if name not in places}
    return Likeness((asked.query, asked.operation_name, json.dumps(deciding, sort_keys=True)), seen.looks)


class _Seen(Visitor):
    def __init__(self, types: TypeInfo, root: GraphQLNamedType | None, of_the_log: Collection[str]) -> None:
        super().__init__()
        self.types = types
        self.looks = False
        self.used: Counter[str] = Counter()
        self.places: set[str] = set()
        self._root = root
        self._of_the_log = of_the_log

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        parent = self.types.get_parent_type()
        if parent is self._root:
            for argument in node.arguments or ():
                if argument.name.value in PLACES and isinstance(argument.value, VariableNode):
                    self.places.add(argument.value.name.value)
        elif parent is None or parent.name not in self._of_the_log:
            self.looks = True

    def enter_variable_definition(self, node: VariableDefinitionNode, *_: Any) -> VisitorAction:
        return SKIP  # a variable declared is not used yet

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.used[node.name.value] += 1
