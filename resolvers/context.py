"""What every door is handed: who asks, the open house, and loaders that live as long as one operation."""

from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import HTTPConnection

from auth.credentials import standing_behind, viewer_of
from auth.viewer import Viewer
from fleet.house import House
from models.account import Token
from resolvers.loaders import Loaders


@dataclass(slots=True)
class Context:
    """Made new for each operation; `cost` and the rate fields are filled by the transport and shown by `rateLimit`."""

    viewer: Viewer
    house: House
    cost: int = 0
    rate_limit: int = 0
    rate_remaining: int = 0
    rate_resets_at: datetime | None = None
    _loaders: Loaders | None = None

    @property
    def loaders(self) -> Loaders:
        """Made when first asked for: most messages of subscriptions need none."""
        if self._loaders is None:
            self._loaders = Loaders()
        return self._loaders

    def renew(self, viewer: Viewer) -> None:
        """For the next message of a subscription: whoever asks as they are now, and no row from before."""
        self.viewer = viewer
        self.forget()

    def forget(self) -> None:
        """No row that was read until now is met again."""
        self._loaders = None

    async def become(self, token: Token) -> None:
        """Answer the rest of the operation to whoever has just shown that this token is theirs."""
        self.viewer, self._loaders = await standing_behind(token, self.viewer.address), None

    async def look_again(self) -> None:
        """Let the viewer see at once that they have found, joined or left a team in this operation."""
        if self.viewer.token is not None:
            await self.become(self.viewer.token)

    @property
    def viewer_key(self) -> str | None:
        """Names whoever asks: all sockets of one token carry the same."""
        return str(self.viewer.token.id) if self.viewer.token else None

    @property
    def seats(self) -> frozenset[int]:
        return frozenset(self.viewer.members)

    @property
    def payer(self) -> str | None:
        """Whose budget of cost it is, with whichever token."""
        return self.viewer.identity

    @property
    def expires_at(self) -> datetime | None:
        return self.viewer.token.expires_at if self.viewer.token else None


async def context_for(house: House, connection: HTTPConnection, authorization: str | None) -> Context:
    """Raises Unauthenticated for a token that is no good."""
    client = connection.scope.get("client")
    return Context(await viewer_of(authorization, address=client[0] if client else None, now=datetime.now(UTC)), house)
