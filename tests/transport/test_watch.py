"""The watch over connections: whoever loses a token or a seat is sent away, however short they were here."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from models.account import Token
from models.organization import Member
from tests.house import HouseTester
from transport.sockets import NOT_ALLOWED, Sockets
from transport.watch import Watch


@dataclass(eq=False)
class IdleSocket:
    viewer_key: str | None
    seats: frozenset[int]
    address: str = "127.0.0.1"
    codes: list[int] = field(default_factory=list)

    async def leave(self, code: int, reason: str) -> None:
        self.codes.append(code)


async def _socket(tester: HouseTester, token: str) -> IdleSocket:
    context = await tester.context(token)
    return IdleSocket(context.viewer_key, context.seats)


def _watched(*sockets: IdleSocket) -> Watch:
    known = Sockets()
    for socket in sockets:
        known.add(socket)
    return Watch(known)


async def test_a_seat_taken_before_the_first_look_ends_the_connection(tester: HouseTester) -> None:
    owner = await tester.owner()
    gone, stays = [await _socket(tester, await tester.member(owner, name, "DEVELOPER")) for name in ("gone", "stays")]
    watch = _watched(gone, stays)
    await Member.filter(user__email_key="gone@example.com").delete()

    await watch.look()

    assert (gone.codes, stays.codes) == ([NOT_ALLOWED], [])


async def test_a_seat_that_was_gained_meanwhile_can_be_lost_again(tester: HouseTester) -> None:
    socket = await _socket(tester, newcomer := await tester.person("bob"))
    watch = _watched(socket)
    assert socket.seats == frozenset()
    await tester.do("createOrganization", "clientMutationId", newcomer, name="Elsewhere")

    await watch.look()
    assert (socket.codes, len(socket.seats)) == ([], 1)

    await Member.filter(user__email_key="bob@example.com").delete()
    await watch.look()
    assert socket.codes == [NOT_ALLOWED]


async def test_a_revoked_token_ends_its_connections_and_no_others(tester: HouseTester) -> None:
    owner = await tester.owner()
    revoked, other = await _socket(tester, owner), await _socket(tester, await tester.member(owner, "other", "VIEWER"))
    watch = _watched(revoked, other, IdleSocket(None, frozenset()))
    await Token.filter(id=int(revoked.viewer_key or 0)).update(revoked_at=datetime.now(UTC))

    await watch.look()

    assert (revoked.codes, other.codes) == ([NOT_ALLOWED], [])
