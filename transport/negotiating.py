"""As what an answer goes out: one reading of `Accept` for JSON, the newer GraphQL type, and a stream of events."""

import math
from dataclasses import dataclass
from functools import lru_cache

from starlette.datastructures import Headers

from transport.gate import EVENT_STREAM, GRAPHQL_RESPONSE, JSON, Refusal


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a caller takes. `single` is the media type of one result: EVENT_STREAM only for who takes nothing else.

    `streams`: whether the results of a subscription may come as events. A wildcard is not enough, that is what everybody sends.
    """

    single: str = JSON
    streams: bool = False


def negotiate(headers: Headers) -> Accepted:
    """The newer type is given to who names it, a wildcard gets plain JSON. Raises Refusal 406."""
    return _negotiated(", ".join(headers.getlist("accept")))


@lru_cache(maxsize=256)
def _negotiated(header: str) -> Accepted:
    if not header.strip():
        return Accepted()
    best, best_rank = None, (0.0, 0)
    for offered, preference in ((GRAPHQL_RESPONSE, 1), (JSON, 2)):
        quality, exactness = _quality(header, offered)
        rank = (quality, 3 if exactness == 2 and offered == GRAPHQL_RESPONSE else preference)
        if quality > 0 and rank > best_rank:
            best, best_rank = offered, rank
    quality, exactness = _quality(header, EVENT_STREAM)
    streams = quality > 0 and exactness > 0
    if best is None and not streams:
        raise Refusal(406, f"Accept {GRAPHQL_RESPONSE} or {JSON}, and {EVENT_STREAM} for subscriptions.")
    return Accepted(best or EVENT_STREAM, streams)


def _quality(accept: str, offered: str) -> tuple[float, int]:
    """The q-value the header gives to `offered`, from its most exact range; (0, -1) when none fits."""
    found = (0.0, -1)
    family = f"{offered.partition('/')[0]}/*"
    for entry in accept.split(","):
        media_range, *parameters = [part.strip().lower() for part in entry.split(";")]
        exactness = {offered: 2, family: 1, "*/*": 0}.get(media_range, -1)
        if exactness > found[1]:
            found = (_q(parameters), exactness)
    return found


def _q(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(text)
            except ValueError:
                return 0.0
            return min(max(quality, 0.0), 1.0) if math.isfinite(quality) else 0.0
    return 1.0
