"""What a stream is read from and whom it is written to: the words between the log, the fan-out and the wires."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from realtime.cursor import Cursor, Gap
from realtime.dispatcher import Filter, Topic
from realtime.log import Entry
from realtime.named import Held

RECHECK_S = 0.8  # between looks at what a viewer may; with the time it takes to ask, a stream outlives no authority by a second
STALE_S = 0.95  # what is known of a viewer for so long gives out nothing more
PIECE = 50  # entries handed on before that authority is looked at again


class Item(NamedTuple):
    """One message as every follower of a stream gets it. The cursor is that of its entry."""

    cursor: Cursor
    payload: bytes


class Level(NamedTuple):
    """Said by whoever reads at its own pace: nothing in memory is left to read; everything up to here has been handed on."""

    position: int


class Message(Protocol):
    @property
    def cursor(self) -> Cursor: ...


class Source(ABC):
    """What a subscription of the log is read from, alone or in a stream."""

    @property
    @abstractmethod
    def topic(self) -> Topic: ...

    @property
    @abstractmethod
    def only(self) -> Filter: ...

    @abstractmethod
    def view(self, *, looks: bool) -> Hashable:
        """What decides the answers, beside the operation: equal views get equal messages.

        With `looks` the operation also shows what depends on who asks.
        """

    @property
    @abstractmethod
    def authority_key(self) -> Hashable:
        """Sources with the same one are allowed the same."""

    @property
    @abstractmethod
    def checked_at(self) -> float:
        """When what it knows of its viewer was asked, by the loop's clock."""

    @abstractmethod
    async def check(self) -> Any:
        """What the viewer is allowed now, for renew(); None while nobody can tell. Raises what ends the subscription."""

    @abstractmethod
    def renew(self, authority: Any) -> None: ...

    @abstractmethod
    def read(self, begin: Cursor | Gap | int | None = None, *, is_slow: bool = False) -> AsyncGenerator[Sequence[Message] | Level, None]:
        """At its own pace: from where the subscription begins, or on from a position or gap of a stream.

        With `is_slow` states that were overtaken by later ones may be left out.
        """

    @abstractmethod
    async def messages(self, entries: Sequence[Entry]) -> Sequence[Message]:
        """What the viewer is shown of these."""

    @abstractmethod
    def messages_at_once(self, entries: Sequence[Entry]) -> Sequence[Message] | None:
        """The same where nothing has to be waited for; None where something has."""

    @property
    @abstractmethod
    def named(self) -> Held | None:
        """Where how far it was delivered is remembered; None if it has no name."""

    @abstractmethod
    async def release(self) -> None:
        """Its subscriber has gone."""

    @abstractmethod
    def before_message(self) -> None:
        """What one message found is not to be used for the next."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Message]:
        """All of it at its own pace, for who knows nothing of streams."""


class Follower(Protocol):
    """One subscriber as a stream sees it; hashed by identity."""

    @property
    def lane(self) -> "Lane": ...

    @property
    def source(self) -> Source: ...

    @property
    def view(self) -> Hashable: ...

    async def prepare(self, entries: Sequence[Entry]) -> list[Item]: ...

    def prepare_at_once(self, messages: Sequence[Message]) -> list[Item] | None:
        """The same of messages at hand; None where something has to be waited for."""

    def recall(self, begin: int | Gap, error: Exception | None = None) -> None:
        """Sent out of the stream, to go on by itself from `begin`, or to end."""


class Lane(Protocol):
    """How items get to followers that are written to alike; equal lanes are one. Followers may fill up in it, but not leave."""

    def write(self, followers: Iterable[Any], items: Sequence[Item]) -> None: ...
