"""What may come in as a request to GraphQL; refused here, nothing has run."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from starlette.requests import ClientDisconnect, HTTPConnection, Request

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"
DEPTH_MAX = 64  # levels of nesting in a request's JSON
PREFLIGHT_HEADERS = ("graphql-preflight", "apollo-require-preflight", "x-requested-with")
TOKEN_NAMES = frozenset({"access_token", "token", "authorization"})  # by RFC 6750, 2.3, and what people try
_SIMPLE_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


class Refusal(Exception):
    """An HTTP request that GraphQL never sees: answered with `status`, one error and `headers`."""

    def __init__(self, status: int, message: str, *, code: str = "BAD_REQUEST", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation as it was sent, types checked. `query` is empty until the text behind `document_id` is found."""

    query: str
    operation_name: str | None = None
    variables: dict[str, object] | None = None
    extensions: dict[str, object] | None = None
    files: list[object] = field(default_factory=list)  # open until the answer is sent
    document_id: str | None = None  # a hash, as the client sent it


def check_preflight(request: Request, content_type: str) -> None:
    """A page of another site may send these without asking the browser first, so they must carry a header that makes it ask."""
    if request.method == "POST" and content_type not in _SIMPLE_TYPES and content_type:
        return
    if not any(request.headers.get(name) for name in PREFLIGHT_HEADERS):
        names = "GraphQL-Preflight, Apollo-Require-Preflight or X-Requested-With"
        raise Refusal(400, f"Send one of the headers {names} (any value) with a {request.method} of this kind.")


def check_address(connection: HTTPConnection) -> None:
    """Addresses stand in logs, histories and referrers: a token there is refused, so that nobody builds on it. Raises Refusal 400."""
    if connection.scope["query_string"] and TOKEN_NAMES & connection.query_params.keys():
        raise Refusal(400, "Never send a token in the address: send it as `Authorization: Bearer …`, and replace this one.")


def media_type(request: Request) -> str:
    """The request's content type in lower case, without parameters. Raises Refusal 415 for a charset that is not UTF-8."""
    name, *parameters = [part.strip().lower() for part in request.headers.get("content-type", "").split(";")]
    for parameter in parameters:
        key, _, charset = parameter.partition("=")
        if name == JSON and key.strip() == "charset" and charset.strip('" ') not in ("utf-8", "utf8"):
            raise Refusal(415, "Send JSON in UTF-8.")
    return name


async def body(request: Request, size_max: int) -> bytes:
    """The request's body. Raises Refusal 413 without reading on when it is, or says it is, larger than `size_max` bytes."""
    check_length(request, size_max)
    found, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        found += message.get("body", b"")
        if len(found) > size_max:
            raise too_large(size_max)
        more = message.get("more_body", False)
    return bytes(found)


def check_length(request: Request, size_max: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > size_max:
        raise too_large(size_max)


def too_large(size_max: int) -> Refusal:
    return Refusal(413, f"The request is too large: at most {size_max} bytes here.")


def json_value(raw: bytes | str) -> object:
    """JSON as the rest of the server can take it: UTF-8, no lone surrogate, finite numbers, at most 64 levels. Raises ValueError."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    try:
        value: object = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level: list[object] = [value]
    for _ in range(DEPTH_MAX + 1):
        below: list[object] = []
        for item in level:
            below += _inside(item)
        if not below:
            return value
        level = below
    raise ValueError("nested too deeply")


def json_bytes(value: object) -> bytes:
    """The value as compact JSON. Raises ValueError or TypeError for what JSON does not know."""
    try:
        return msgspec.json.encode(value)
    except (OverflowError, TypeError):  # it knows whole numbers up to 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _inside(item: object) -> list[object]:
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    if isinstance(item, list):
        return item
    if isinstance(item, str):
        item.encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
    elif isinstance(item, float) and not math.isfinite(item):
        raise ValueError("not a finite number")
    return []


def asked(value: object, files: list[object] | None = None) -> Asked:
    """The operation in a request's JSON object. Raises Refusal 400 with the member that is wrong."""
    if isinstance(value, list):
        raise Refusal(400, "Send one operation a request; batches are not accepted.")
    if not isinstance(value, dict):
        raise Refusal(400, "Send a JSON object with `query`.")
    operation = members(value, files or [])
    if not operation.query.strip() and (operation.document_id is None or operation.query):
        raise Refusal(400, "`query` must be a string with a GraphQL document.")
    return operation


def members(value: Mapping[str, object], files: list[object]) -> Asked:
    """The members of an operation, each of its type; the text may be empty. Raises Refusal 400 with the member that is wrong."""
    query, name = value.get("query"), value.get("operationName")
    variables, extensions = value.get("variables"), value.get("extensions")
    if variables is not None and not isinstance(variables, dict):
        raise Refusal(400, "`variables` must be an object or null.")
    if extensions is not None and not isinstance(extensions, dict):
        raise Refusal(400, "`extensions` must be an object or null.")
    if name is not None and not isinstance(name, str):
        raise Refusal(400, "`operationName` must be a string or null.")
    named = document_id(extensions or {}, value.get("documentId"))
    if not isinstance(query, str) and not (query is None and named):
        raise Refusal(400, "`query` must be a string with a GraphQL document.")
    return Asked(query or "", name or None, variables, extensions, files, named)


def document_id(extensions: Mapping[str, object], named: object) -> str | None:
    """The hash that stands for a document: Apollo's in `extensions.persistedQuery`, or `documentId` as GraphQL over HTTP has it.

    Raises Refusal 400.
    """
    persisted = extensions.get("persistedQuery")
    if persisted is not None:
        if not isinstance(persisted, dict) or not isinstance(persisted.get("sha256Hash"), str) or not persisted["sha256Hash"]:
            raise Refusal(400, "`extensions.persistedQuery` must be an object with the string `sha256Hash`.")
        if persisted.get("version") != 1:
            raise Refusal(400, "Unsupported persisted query version")
        return str(persisted["sha256Hash"])
    if named is not None and not isinstance(named, str):
        raise Refusal(400, "`documentId` must be a string or null.")
    return named.removeprefix("sha256:") or None if named else None


def wrong_in_message(message: object) -> str | None:
    """The rule of graphql-transport-ws that a client's message breaks; None if it keeps them all."""
    if not isinstance(message, dict):
        return "A message must be a JSON object"
    kind, payload = message.get("type"), message.get("payload")
    if kind not in ("connection_init", "ping", "pong", "subscribe", "complete"):
        return "Unknown message type"
    if kind in ("subscribe", "complete") and not (isinstance(message.get("id"), str) and message["id"]):
        return "`id` must be a string, not empty"
    if kind == "subscribe":
        return _wrong_in_subscribe(payload)
    if kind != "complete" and not isinstance(payload, dict | None):
        return "`payload` must be an object or null"
    return None


def _wrong_in_subscribe(payload: object) -> str | None:
    if not isinstance(payload, Mapping):
        return "`payload` must be an object"
    try:
        members(payload, [])
    except Refusal as refusal:
        return refusal.message
    return None
