"""Going on where a broken stream of events ended: `Last-Event-ID` becomes the `after` of the subscription's field."""

from dataclasses import replace

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    GraphQLArgument,
    GraphQLObjectType,
    NameNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionNode,
    VariableDefinitionNode,
    VariableNode,
    parse_type,
    print_ast,
)

from transport.documents import Prepared
from transport.gate import Asked

AFTER = "after"


def resumed(asked: Asked, prepared: Prepared, subscriptions: GraphQLObjectType | None, last_event_id: str) -> Asked:
    """`asked`, told to go on behind the last event its client heard.

    Unchanged where the field has no `after`, where the client gave one, and where the field stands in a fragment. The new text is the
    same for every event, so that it is parsed and validated once; what differs comes as a variable.
    """
    fields = prepared.operation.selection_set.selections
    first = fields[0]
    known = subscriptions.fields.get(first.name.value) if subscriptions and isinstance(first, FieldNode) else None
    argument = known.args.get(AFTER) if known else None
    if argument is None or not isinstance(first, FieldNode) or not all(isinstance(field, FieldNode) for field in fields):
        return asked
    given = next((each.value for each in first.arguments or () if each.name.value == AFTER), None)
    if isinstance(given, VariableNode):
        name = given.name.value
        return asked if _has_value(asked, prepared.operation, name) else _with_variable(asked, name, last_event_id)
    if given is not None and not isinstance(given, NullValueNode):
        return asked
    name = _free_name(prepared.operation)
    rewritten = replace(asked, query=print_ast(_rewritten(prepared, argument, name)))
    return _with_variable(rewritten, name, last_event_id)


def _has_value(asked: Asked, operation: OperationDefinitionNode, name: str) -> bool:
    variables = asked.variables or {}
    if name in variables:
        return variables[name] is not None
    defaults = (each.default_value for each in operation.variable_definitions or () if each.variable.name.value == name)
    return any(default is not None and not isinstance(default, NullValueNode) for default in defaults)


def _with_variable(asked: Asked, name: str, value: str) -> Asked:
    return replace(asked, variables={**(asked.variables or {}), name: value})


def _free_name(operation: OperationDefinitionNode) -> str:
    taken = {each.variable.name.value for each in operation.variable_definitions or ()}
    name = "lastEventId"
    while name in taken:
        name += "_"
    return name


def _rewritten(prepared: Prepared, argument: GraphQLArgument, name: str) -> DocumentNode:
    """The document with `after` from a variable of its own."""
    operation, variable = prepared.operation, VariableNode(name=NameNode(value=name))
    declared = VariableDefinitionNode(variable=variable, type=parse_type(str(argument.type)), default_value=None, directives=())
    changed = replace(
        operation,
        variable_definitions=(*(operation.variable_definitions or ()), declared),
        selection_set=replace(
            operation.selection_set, selections=tuple(_after(field, variable) for field in operation.selection_set.selections)
        ),
    )
    definitions = tuple(changed if each is operation else each for each in prepared.document.definitions)
    return replace(prepared.document, definitions=definitions)


def _after(field: SelectionNode, variable: VariableNode) -> SelectionNode:
    assert isinstance(field, FieldNode)
    others = (each for each in field.arguments or () if each.name.value != AFTER)
    return replace(field, arguments=(*others, ArgumentNode(name=NameNode(value=AFTER), value=variable)))
