"""The wire format: nested brackets in forms and queries, the bodies of errors, lists, and what `expand` asks for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

Body: TypeAlias = dict[str, Any]  # an object of the wire: JSON, whatever its type

BRACKETS = re.compile(r"\[([^\[\]]*)\]")
DEPTH = 8  # brackets of one name
PARAMETERS = 1000  # of one request


@dataclass(frozen=True)
class Reply:
    """A status and a body. Returned, it is committed with what was done; see Fault for answers that undo."""

    status: int
    body: Body


class Fault(Exception):
    """A request that is refused: everything it did is rolled back, and this is the answer."""

    def __init__(
        self, message: str, *, status: int = 400, type: str = "invalid_request_error", code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": type}
        if code:
            self.error |= {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"}
        if param:
            self.error["param"] = param

    def reply(self) -> Reply:
        return Reply(self.status, {"error": self.error})


def missing(kind: str, id: str, *, param: str = "id", status: int = 404) -> Fault:
    """404 for what a path names, 400 for what a parameter names."""
    return Fault(f"No such {kind}: '{id}'", status=status, code="resource_missing", param=param)


def decode(text: str) -> Body:
    """`items[0][price]=x` as {"items": {"0": {"price": "x"}}}: what is a list and what a mapping, the types say later. Raises Fault."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=PARAMETERS, errors="strict")
    except ValueError as error:  # UnicodeDecodeError is one
        raise Fault("The parameters cannot be read: they must be form encoded, in UTF-8.") from error
    root: Body = {}
    for name, value in pairs:
        _place(root, _keys(name), value, name)
    return root


def _keys(name: str) -> list[str]:
    first, bracket, rest = name.partition("[")
    keys = [first, *BRACKETS.findall(bracket + rest)]
    if not first or len(keys) > DEPTH or "".join(f"[{key}]" for key in keys[1:]) != bracket + rest:
        raise Fault(f"Invalid parameter name: {name[:100]}", param=name[:100])
    return keys


def _place(root: Body, keys: Sequence[str], value: str, name: str) -> None:
    node = root
    for key in keys[:-1]:
        node = node.setdefault(key or str(len(node)), {})
        if not isinstance(node, dict):
            raise Fault(f"Invalid {name}: it is both a value and an object.", param=name)
    last = keys[-1] or str(len(node))
    if last in node:
        raise Fault(f"Received {name} more than once.", param=name)
    node[last] = value


def nulls(names: str) -> Body:
    """Fields that are there and say nothing."""
    return dict.fromkeys(names.split())


def page(items: list[Body], *, url: str, has_more: bool = False) -> Body:
    return {"object": "list", "data": items, "has_more": has_more, "url": url}
