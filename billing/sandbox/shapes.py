"""What an answer must look like, read at run time from the SDK's own resource classes: nothing required missing, nothing unknown."""

import re
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, ForwardRef, Literal, Union, get_args, get_origin

import stripe
from stripe._expandable_field import ExpandableField
from stripe._object_classes import OBJECT_CLASSES

from billing.sandbox.wire import Body

IMPORT = re.compile(r"from (stripe[\w.]*) import ((?:\((?:\s*[\w ,]+)+\s*\))|[\w ,]+)")


JSON_TYPES: Mapping[Any, tuple[type, ...]] = {int: (int,), bool: (bool,), str: (str,), float: (int, float), Decimal: (str,)}


class WrongShape(AssertionError):
    """An answer that the real thing could not have given; the message says where."""


def require_shape(body: Body, verb: str, template: str) -> None:
    """Raises WrongShape."""
    faults = list(check(body))
    if faults:
        raise WrongShape(f"{verb} {template}: " + "; ".join(faults[:10]))


def check(body: Body) -> Iterator[str]:
    """What is wrong with an object or a list of objects, one sentence each."""
    if body.get("deleted") is True:
        yield from _sorted_out(set(body) - {"id", "object", "deleted"}, "is not on a deleted object")
        return
    if body.get("object") == "list":
        yield from _list(body, Any, "list")
        return
    where = OBJECT_CLASSES.get(body.get("object", ""))
    if where is None:
        yield f"no class for {body.get('object')!r}"
        return
    yield from _object(body, getattr(import_module(where[0]), where[1]), str(body["object"]))


def _sorted_out(names: set[str], what: str) -> Iterator[str]:
    return (f"{name} {what}" for name in sorted(names))


def _object(body: Any, known: type, path: str) -> Iterator[str]:
    if not isinstance(body, dict):
        yield f"{path} is {body!r}, not an object"
        return
    fields = annotations(known)
    for name, kind in fields.items():
        if name not in body:
            if not _optional(kind, known):
                yield f"{path}.{name} is missing"
        else:
            yield from _value(body[name], kind, known, f"{path}.{name}")
    yield from (f"{path}.{name} is unknown" for name in body if name not in fields)


@lru_cache(maxsize=512)
def annotations(known: type) -> Mapping[str, Any]:
    own = vars(known).get("__annotations__") or getattr(known, "__annotations__", {})
    return {name: kind for name, kind in own.items() if get_origin(kind) is not ClassVar and not name.startswith("_")}


def _optional(kind: Any, known: type) -> bool:
    return NoneType in get_args(_resolved(kind, known))


def _resolved(kind: Any, known: type) -> Any:
    """The type behind a name: names of other resources are imported for type checkers only, so their modules are found by reading."""
    if isinstance(kind, ForwardRef):
        kind = kind.__forward_arg__
    if isinstance(kind, str):
        module = sys.modules[known.__module__]
        return eval(kind, {**vars(import_module("typing")), "ExpandableField": ExpandableField}, _Names(module, kind))  # noqa: S307
    return kind


class _Names(dict[str, Any]):
    """Looks a name up in its module, and if it is imported for type checkers only, in the module it comes from."""

    def __init__(self, module: Any, text: str) -> None:
        super().__init__()
        for name in re.findall(r"\w+", text):
            if hasattr(module, name):
                self[name] = getattr(module, name)
            elif name in (sources := _sources(module.__file__)):
                module_name, real_name = sources[name]
                self[name] = getattr(import_module(module_name), real_name)


@lru_cache(maxsize=256)
def _sources(file: str) -> Mapping[str, tuple[str, str]]:
    """Name → the module it comes from and its name there."""
    found: dict[str, tuple[str, str]] = {}
    for module, names in IMPORT.findall(Path(file).read_text(encoding="utf-8")):
        for name in filter(None, map(str.strip, names.strip("()").split(","))):
            real, _, alias = name.partition(" as ")
            found[alias.strip() or real] = module, real.strip()
    return found


def _value(value: Any, kind: Any, known: type, path: str) -> Iterator[str]:
    kind = _resolved(kind, known)
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin in (Union, UnionType):
        yield from _one_of(value, inner, known, path)
    elif origin is Literal:
        if value not in inner:
            yield f"{path} is {value!r}, not one of {inner[:8]}"
    elif origin is list:
        yield from _items(value, inner[0], known, path)
    elif origin is stripe.ListObject:
        yield from _list(value, inner[0], path, known)
    elif origin is dict or (isinstance(origin, type) and issubclass(origin, stripe.StripeObject)):
        if not isinstance(value, dict):
            yield f"{path} is {value!r}, not a mapping"
    elif isinstance(kind, type) and issubclass(kind, stripe.StripeObject):
        yield from _object(value, kind, path)
    else:
        yield from _scalar(value, kind, path)


def _one_of(value: Any, kinds: tuple[Any, ...], known: type, path: str) -> Iterator[str]:
    """The alternative with the fewest faults; `Literal[...] | str` means a known word, for what we answer."""
    resolved = [_resolved(kind, known) for kind in kinds]
    if value is None and NoneType in resolved:
        return
    resolved = [kind for kind in resolved if kind is not NoneType]
    if any(get_origin(kind) is Literal for kind in resolved):
        resolved = [kind for kind in resolved if kind is not str]
    if isinstance(value, str) and str in resolved:
        return
    if isinstance(value, dict) and len(resolved) > 1:
        resolved = [kind for kind in resolved if kind is not str]  # an expanded field is judged as the object it is
    yield from min(([*_value(value, kind, known, path)] for kind in resolved), key=len)


def _items(value: Any, kind: Any, known: type, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path} is {value!r}, not a list"
        return
    for place, each in enumerate(value):
        yield from _value(each, kind, known, f"{path}[{place}]")


def _list(value: Any, kind: Any, path: str, known: type = stripe.ListObject) -> Iterator[str]:
    if not isinstance(value, dict) or set(value) != {"object", "data", "has_more", "url"} or value["object"] != "list":
        yield f"{path} is no list object"
        return
    for place, each in enumerate(value["data"]):
        if kind is Any:
            yield from check(each)
        else:
            yield from _value(each, kind, known, f"{path}[{place}]")


def _scalar(value: Any, kind: Any, path: str) -> Iterator[str]:
    wanted = JSON_TYPES.get(kind)
    if wanted is None:
        yield f"{path}: no rule for {kind!r}"
    elif not isinstance(value, wanted) or (kind in (int, float) and isinstance(value, bool)):
        yield f"{path} is {value!r}, not {kind.__name__}"
