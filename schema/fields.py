"""The few ways a field of the schema is made: ids, attributes, connections, and mutations that answer with data or errors."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from inspect import Parameter, Signature, isawaitable
from typing import Annotated, Any, Generic, NewType, TypeVar, get_args, get_origin

import msgspec
import strawberry
from strawberry import UNSET
from strawberry.types import Info

import resolvers.paging
from errors import ERROR_CODES, CallerError, ErrorCode, RequestRefused
from fleet import repeating
from models.global_ids import global_id
from schema.reading import READING, Asked, Attribute, Computed, Reading

T = TypeVar("T")

# ── scalars ──
DeviceID = NewType("DeviceID", str)
Cursor = NewType("Cursor", str)
URL = NewType("URL", str)
DateTime = NewType("DateTime", datetime)


def _utc_text(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: 2026-11-21T10:00:00.123Z."""
    moment = value if value.tzinfo is UTC else value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    text: str = msgspec.to_builtins(moment)  # in C, an eighth of isoformat's time: 2026-11-21T10:00:00.123000Z, without zeros 10:00:00Z
    return f"{text[:23]}Z" if len(text) > 20 else f"{text[:19]}.000Z"


def _utc_time(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError("A DateTime is a string such as 2026-11-21T10:00:00Z.")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("A DateTime needs its zone: end it with Z or an offset.")
    return moment.astimezone(UTC)


def _device_id(text: object) -> str:
    if not isinstance(text, str) or len(text) != 24 or not all(c in "0123456789abcdefABCDEF" for c in text):
        raise ValueError("A DeviceID is 24 hexadecimal digits.")
    return text.lower()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("This is a string.")
    return value


SCALARS: dict[object, Any] = {
    DateTime: strawberry.scalar(
        name="DateTime", description="A moment, RFC 3339, always UTC: 2026-11-21T10:00:00.123Z.", serialize=_utc_text, parse_value=_utc_time
    ),
    DeviceID: strawberry.scalar(
        name="DeviceID",
        description="24 hexadecimal digits; any case is accepted, lower case is answered.",
        serialize=str,
        parse_value=_device_id,
    ),
    Cursor: strawberry.scalar(
        name="Cursor", description="A place in a list or in a product's log; opaque.", serialize=str, parse_value=_text
    ),
    URL: strawberry.scalar(name="URL", description="An absolute URL.", serialize=str, parse_value=_text),
}


# ── fields of rows ──
def attribute(name: str, description: str) -> Any:
    """A field answered by the row's attribute `name`, where that is not the field's own name."""
    return _of_the_row(Attribute(name), description)


def computed(of: Callable[[Any], Any], description: str, name: str | None = None) -> Any:
    """A field answered by a function of the row alone; `name` where the schema's is no name for Python."""
    return _of_the_row(Computed(of), description, name)


def _of_the_row(reading: Attribute | Computed, description: str, name: str | None = None) -> Any:
    def read(root: Any) -> Any:
        return reading.of(root)

    return _declared(read, reading, description, name)


def resolved_by(door: Callable[..., Any], description: str) -> Any:
    """A field without arguments answered by `door(row, context)`."""

    def read(root: Any, info: Info) -> Any:
        return door(root, info.context)

    return _declared(read, Asked(door), description)


def _declared(read: Callable[..., Any], reading: Reading, description: str, name: str | None = None) -> Any:
    read.__annotations__.pop("return", None)  # the field's own annotation is its type
    return strawberry.field(resolver=read, description=description, name=name, metadata={READING: reading})


def asked(door: Callable[..., Any], description: str, **arguments: Any) -> Any:
    """A field answered by `door(row, context, **arguments)`; each argument is given as its type and is absent by default.

    A root field's door gets `door(context, **arguments)`. An argument that must be given is a type that does not allow None.
    """
    reading = Asked(door, tuple(arguments))

    async def read(root: Any, info: Info, **given: Any) -> Any:
        found = reading.answer(root, info.context, reading.named(given))
        return await found if isawaitable(found) else found

    read.__signature__ = _signature(arguments)  # type: ignore[attr-defined]  # inspect's own protocol
    read.__annotations__ = {"root": Any, "info": Info, **{name: _type(argument) for name, argument in arguments.items()}}
    return _declared(read, reading, description)


def streamed(door: Callable[..., Any], description: str, **arguments: Any) -> Any:
    """A subscription answered by what `await door(context, **arguments)` goes on to yield; arguments as for `asked`.

    What the door refuses is refused before the stream begins.
    """

    async def read(info: Info, **given: Any) -> Any:
        return await door(info.context, **{name: None if value is UNSET else value for name, value in given.items()})

    wanted = _signature(arguments)
    read.__signature__ = wanted.replace(parameters=list(wanted.parameters.values())[1:])  # type: ignore[attr-defined]  # inspect's own
    read.__annotations__ = {"info": Info, **{name: _type(argument) for name, argument in arguments.items()}}
    return strawberry.subscription(resolver=read, description=description)


def _signature(arguments: Mapping[str, Any]) -> Signature:
    kind = Parameter.KEYWORD_ONLY
    named = [Parameter(name, kind, default=_default(argument), annotation=argument) for name, argument in arguments.items()]
    first = [Parameter("root", Parameter.POSITIONAL_OR_KEYWORD, annotation=Any), Parameter("info", kind, annotation=Info)]
    return Signature([*first, *named])


def _type(argument: Any) -> Any:
    """The type under the description of an Annotated one."""
    return get_args(argument)[0] if get_origin(argument) is Annotated else argument


def _default(argument: Any) -> Any:
    """The one it was given; else absent where it may be, and none where it must be given."""
    if get_origin(argument) is Annotated and len(get_args(argument)) > 2:
        return get_args(argument)[2]
    return UNSET if type(None) in get_args(_type(argument)) else Parameter.empty


def described(description: str) -> Any:
    """A field answered by the row's attribute of the same name."""
    return strawberry.field(description=description)


def optional(description: str) -> Any:
    """An input's field that may be left out; the door then is called without it."""
    return strawberry.field(description=description, default=UNSET)


def outcome(description: str) -> Any:
    """A payload's field: null whenever `errors` is not empty."""
    return strawberry.field(description=description, default=None)


def argument(kind: Any, description: str, *default: Any) -> Any:
    """An argument for `asked`, with its sentence and, if it has one, the default that the schema shows."""
    return Annotated[(kind, strawberry.argument(description=description), *default)]


def enumeration(kind: type[Enum], description: str, **sentences: str) -> None:
    """Make an enum of a lower room known to the schema, with a sentence for each of its values."""
    strawberry.enum(kind, description=description)
    for value in kind.__strawberry_definition__.values:  # type: ignore[attr-defined]  # what strawberry.enum leaves on it
        value.description = sentences.pop(value.name)
    assert not sentences, sentences


def rows_of(*classes: type) -> Any:
    """`is_type_of` for a type whose instances are rows of these classes; interfaces need it to tell types apart."""

    def is_type_of(value: object, _info: object) -> bool:
        return isinstance(value, classes)

    is_type_of.classes = classes  # type: ignore[attr-defined]  # for the compiler
    return is_type_of


# ── global ids ──
def id_of(kind: str, attribute_name: str = "pk") -> Any:
    """The `id` field of a Node whose row's key is the named attribute."""

    return computed(lambda row: global_id(kind, getattr(row, attribute_name)), "Opaque, global and stable; `node(id:)` finds it again.")


# ── nodes and connections ──
FIRST = argument(int | None, "How many from the start of the list, 1 to 100; 25 when neither first nor last is given.")
AFTER = argument(Cursor | None, "Go on behind this cursor.")
LAST = argument(int | None, "How many from the end of the list, 1 to 100.")
BEFORE = argument(Cursor | None, "Go back from this cursor.")


@strawberry.interface(description="Anything with a global id.")
class Node:
    id: strawberry.ID = strawberry.field(description="Opaque, global and stable.")


@strawberry.type(description="Where a page of a list stands in it.")
class PageInfo:
    has_next_page: bool = described("Whether more follow this page.")
    has_previous_page: bool = described("Whether some came before this page.")
    start_cursor: Cursor | None = described("Cursor of the first edge; null on an empty page.")
    end_cursor: Cursor | None = described("Cursor of the last edge; null on an empty page. Give it as `after` for the next page.")


@strawberry.type(description="One object in a list, with its place.")
class Edge(Generic[T]):
    cursor: Cursor = described("Its place: as `after` it continues behind this object.")
    node: T = described("The object.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[T]):
    edges: list[Edge[T]] = described("Objects with their cursors.")
    nodes: list[T] = described("The objects alone.")
    page_info: PageInfo = described("Where this page stands in the list.")

    total_count: int = resolved_by(resolvers.paging.total_count, "How many there are in the whole list; counted only when asked for.")


# ── mutations ──
enumeration(ErrorCode, "What the caller can do something about, for programs.", **ERROR_CODES)


@strawberry.type(description="What the caller can do something about.")
class UserError:
    code: ErrorCode = described("What went wrong, for programs.")
    message: str = described("What went wrong and what to do about it, for people.")
    reason: str | None = described("The exact rule that refused, where one code covers several; null elsewhere.")
    path: list[str] | None = described('The input field it is about, e.g. ["input", "deviceIds", "3"]; null when it is about none.')


def user_error(refusal: CallerError) -> UserError:
    path = ["input", *refusal.path] if refusal.path else None
    return UserError(code=ErrorCode(refusal.code), message=refusal.message, reason=refusal.reason, path=path)


@strawberry.type
class Payload:
    """What every mutation answers. Subclasses add their object, null whenever `errors` is not empty."""

    errors: list[UserError] = strawberry.field(description="Empty when it was done; else why nothing changed.", default_factory=list)
    client_mutation_id: str | None = outcome("The input's clientMutationId, passed through.")


@strawberry.input
class Input:
    client_mutation_id: str | None = optional("Any text; it comes back in the payload.")


@strawberry.input
class KeyedInput(Input):
    """For mutations that create, flash, release or change what is charged; the wrapper below is all that knows of the key."""

    idempotency_key: str | None = optional(
        "Up to 200 characters of your choice, new for each act. Within 24 hours a call with the same key and input does nothing"
        " and is answered as the first was, tokens included; with another input it is refused. While the first is at work it waits,"
        " five seconds at most. A refused call may be repeated under its key."
    )


Door = Callable[..., Awaitable[Mapping[str, Any] | None]]


def mutation(door: Door, asked: type, payload: type[Payload], description: str) -> Any:
    """A mutation: the input's fields become keyword arguments of `door(context, …)`; its answer fills the payload.

    Fields the client left out are left out of the call, so the door's defaults hold. A CallerError becomes an entry of
    `errors` in an otherwise empty payload, except those that stop the whole request.
    """

    is_keyed = issubclass(asked, KeyedInput)  # where money moves at once the key goes on to the payment provider

    async def resolve(info: Info, input: Any) -> Any:
        given = {name: value for name, value in vars(input).items() if value is not UNSET}
        mutation_id = given.pop("client_mutation_id", None)
        try:
            answer = dict(await (_done_once if is_keyed else _done)(door, info, given) or {})
        except RequestRefused:
            raise
        except CallerError as refusal:
            return payload(errors=[user_error(refusal)], client_mutation_id=mutation_id)
        answer["errors"] = [user_error(refusal) for refusal in answer.get("errors", ())]
        return payload(client_mutation_id=mutation_id, **answer)

    resolve.__annotations__ = {"info": Info, "input": argument(asked, "What it takes."), "return": payload}
    return strawberry.mutation(resolver=resolve, description=description)


async def _done(door: Door, info: Info, given: dict[str, Any]) -> Mapping[str, Any] | None:
    return await door(info.context, **given)


async def _done_once(door: Door, info: Info, given: dict[str, Any]) -> Mapping[str, Any] | None:
    """What the door answers, or has answered when it was called with this key before."""
    key = given.pop("idempotency_key", None)
    if key is None:
        return await _done(door, info, given)
    asked = repeating.Asked(key, info.field_name, given, by=info.context.viewer)
    return await repeating.once(asked, lambda: door(info.context, **given), house=info.context.house)
