"""What a request may say, read at run time from the SDK's own types: every endpoint method is matched to its parameter class."""

import re
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, NotRequired, Required, Union, get_args, get_origin

import stripe
from typing_extensions import is_typeddict

from billing.sandbox.wire import Body, Fault

PACKAGE = Path(stripe.__file__).parent
METHOD = re.compile(r"\n    def (\w+)\(")
PARAMS = re.compile(r'\bparams: (?:Optional\[)?"(\w+)"')
REQUEST = re.compile(r'self\._request\(\s*"(\w+)",\s*"([^"]+)"')
IMPORT = re.compile(r"from (stripe\.params[\w.]*) import \(?\s*(\w+)")
SEGMENT = re.compile(r"\{\w*\}")
# Of the SDK's options for a call, the ones a parameter class inherits: they travel as headers, never as parameters.
OPTIONS = frozenset(
    ("api_key", "stripe_version", "stripe_account", "stripe_context", "max_network_retries", "idempotency_key", "content_type", "headers")
)


@lru_cache(maxsize=1)
def endpoints() -> Mapping[tuple[str, str], str | None]:
    """(verb, path with {} for each id) → "module:class" of its parameters, None where it takes none. About 650, in some 0.2 s."""
    found: dict[tuple[str, str], str | None] = {}
    for file in sorted(PACKAGE.rglob("*_service.py")):
        text = file.read_text(encoding="utf-8")
        modules = {name: module for module, name in IMPORT.findall(text)}
        for body in METHOD.split(text)[2::2]:
            request, params = REQUEST.search(body), PARAMS.search(body)
            if request:
                where = f"{modules[params[1]]}:{params[1]}" if params and params[1] in modules else None
                found[request[1].lower(), SEGMENT.sub("{}", request[2])] = where
    return found


@lru_cache(maxsize=256)
def parameters(verb: str, path: str) -> type | None:
    """The SDK's parameter class of an endpoint; None where it takes none. Raises KeyError for an endpoint the SDK does not know."""
    where = endpoints()[verb.lower(), path]
    if where is None:
        return None
    module, _, name = where.partition(":")
    found: type = getattr(import_module(module), name)
    return found


def read(verb: str, path: str, raw: Body) -> Body:
    """The parameters with the types the SDK gives them. Raises Fault naming the first that the SDK does not know or could not send."""
    known = parameters(verb, path)
    if known is None:
        return _mapping(raw, {}, "", module="stripe")
    return _typed_dict(raw, known, "")


def _typed_dict(raw: Any, known: type, name: str) -> Body:
    if not isinstance(raw, dict):
        raise Fault("Invalid object", param=name)
    fields = {key: kind for key, kind in _annotations(known).items() if name or key not in OPTIONS}
    read = _mapping(raw, fields, name, module=known.__module__)
    for key, kind in fields.items():
        if key not in read and get_origin(kind) is not NotRequired:
            path = _inside(name, key)
            raise Fault(f"Missing required param: {path}.", code="parameter_missing", param=path)
    return read


@lru_cache(maxsize=1024)
def _annotations(known: type) -> dict[str, Any]:
    """Of this class and those it is made from; a TypedDict forgets its bases, and gathers their fields."""
    gathered: dict[str, Any] = {}
    for key, kind in known.__annotations__.items():
        gathered[key] = _resolved(kind, known.__module__)
    return gathered


def _mapping(raw: Body, fields: Mapping[str, Any], name: str, *, module: str) -> Body:
    read: Body = {}
    for key, value in raw.items():
        path = _inside(name, key)
        if key not in fields:
            raise Fault(f"Received unknown parameter: {path}", code="parameter_unknown", param=path)
        read[key] = _value(value, fields[key], path, module)
    return read


def _inside(name: str, key: str) -> str:
    return f"{name}[{key}]" if name else key


def _resolved(kind: Any, module: str) -> Any:
    """The type behind a name; names are looked up where the class was written."""
    if isinstance(kind, ForwardRef):
        kind = kind.__forward_arg__
    if isinstance(kind, str):
        names = {**vars(import_module("typing")), "Decimal": Decimal, **vars(sys.modules[module])}
        return eval(_alternatives(kind), names)  # noqa: S307 - the SDK's own annotation, out of its own file
    return kind


def _alternatives(text: str) -> str:
    """`A|List[B]` as Union[A,List[B]]: a quoted alternative has no `|` of its own at run time."""
    parts, depth, quoted, start = [], 0, "", 0
    for at, sign in enumerate(text):
        if quoted or sign in "'\"":
            quoted = "" if sign == quoted else quoted or sign
        elif sign in "[]":
            depth += 1 if sign == "[" else -1
        elif sign == "|" and not depth:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return f"Union[{','.join(parts)}]" if len(parts) > 1 else text


def _value(raw: Any, kind: Any, name: str, module: str) -> Any:
    kind = _resolved(kind, module)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (NotRequired, Required):
        return _value(raw, inner[0], name, module)
    if origin in (Union, UnionType):
        return _one_of(raw, inner, name, module)
    if origin is list:
        return _list(raw, inner[0], name, module)
    if origin is dict or (isinstance(origin, type) and issubclass(origin, stripe.StripeObject)):
        return _free_mapping(raw, inner[-1], name, module)
    if origin is Literal:
        if raw not in inner:
            raise _not_among(raw, inner, name)
        return raw
    if is_typeddict(kind):
        return _typed_dict(raw, kind, name)
    return _scalar(raw, kind, name)


def _one_of(raw: Any, kinds: tuple[Any, ...], name: str, module: str) -> Any:
    """The first that fits. `Literal["a", "b"] | str` is how the SDK writes an open list of words: here only known words pass."""
    known = [_resolved(kind, module) for kind in kinds if kind is not NoneType]
    words = [word for kind in known if get_origin(kind) is Literal for word in get_args(kind)]
    if any(words) and str in known:
        known.remove(str)
    problems = []
    for kind in known:
        try:
            return _value(raw, kind, name, module)
        except Fault as fault:
            problems.append(fault)
    # The deepest problem says most: a list that nearly fits over "must be empty".
    raise max(problems, key=lambda fault: len(fault.error.get("param", "")))


def _list(raw: Any, kind: Any, name: str, module: str) -> list[Any]:
    if not isinstance(raw, dict) or not all(key.isdecimal() for key in raw):
        raise Fault("Invalid array", param=name)
    return [_value(value, kind, f"{name}[{key}]", module) for key, value in sorted(raw.items(), key=lambda item: int(item[0]))]


def _free_mapping(raw: Any, kind: Any, name: str, module: str) -> Body:
    if not isinstance(raw, dict):
        raise Fault("Invalid object", param=name)
    return {key: _value(value, kind, f"{name}[{key}]", module) for key, value in raw.items()}


def _scalar(raw: Any, kind: Any, name: str) -> Any:
    if not isinstance(raw, str):
        raise Fault("Invalid string", param=name)
    if kind is int:
        if not re.fullmatch(r"-?\d{1,18}", raw):
            raise Fault(f"Invalid integer: {raw[:100]}", code="parameter_invalid_integer", param=name)
        return int(raw)
    if kind is bool:
        if raw not in ("true", "false"):
            raise Fault(f"Invalid boolean: {raw[:100]}", param=name)
        return raw == "true"
    if kind in (float, Decimal):
        return _decimal(raw, name)
    if kind is not str:
        raise Fault("This sandbox cannot read such a value", param=name)
    return raw


def _decimal(raw: str, name: str) -> Decimal:
    try:
        return Decimal(raw)
    except InvalidOperation:
        raise Fault(f"Invalid decimal: {raw[:100]}", param=name) from None


def _not_among(raw: Any, words: tuple[Any, ...], name: str) -> Fault:
    if words == ("",):
        return Fault(f"Invalid {name}: an object, or empty", param=name)
    return Fault(f"Invalid {name}: must be one of {', '.join(str(word) for word in words[:30])}", param=name)
