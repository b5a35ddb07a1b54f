"""What a token may be used for: every scope with its sentence, and who may hold it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from errors import InvalidInput


class Holder(Enum):
    """Whom a scoped token stands for. A log-in session has no scopes: it may do whatever the person may."""

    PERSON = "personal access token"
    API_USER = "API user"
    CUSTOMER = "customer token"


_PEOPLE = frozenset({Holder.PERSON})
_STAFF = frozenset({Holder.PERSON, Holder.API_USER})
_ALL = frozenset(Holder)


@dataclass(frozen=True, slots=True)
class Scope:
    """One permission. `…:write` does not include `…:read`; holding a scope never widens what the holder's role allows."""

    name: str
    description: str
    holders: frozenset[Holder]


SCOPES: tuple[Scope, ...] = (
    Scope("account:read", "Read the account behind the token: its address, name, invitations and list of tokens.", _PEOPLE),
    Scope("organization:read", "Read the organization: its name, members, invitations and API users.", _STAFF),
    Scope("organization:write", "Found an organization, change its name, and add and remove its signing keys.", _PEOPLE),
    Scope("members:write", "Invite, accept, change and remove members of the organization.", _PEOPLE),
    Scope("api_users:write", "Create, change and delete API users and OAuth clients.", _PEOPLE),
    Scope("billing:read", "Read plan, invoices and card of the organization.", _PEOPLE),
    Scope("billing:write", "Change plan and card, cancel and reactivate.", _PEOPLE),
    Scope("products:read", "Read products, their questions and answers.", _STAFF),
    Scope("products:write", "Create and change products, answer their questions, start manufacturing, rotate provisioning keys.", _STAFF),
    Scope("devices:read", "Read devices and groups, their state and status messages.", _ALL),
    Scope("devices:write", "Register, import, name, approve, deny and remove devices, and put them into groups.", _STAFF),
    Scope("devices:call", "Call functions, read variables and ping devices.", _ALL),
    Scope("devices:claim", "Claim devices for the customer, make claim codes and give devices back.", frozenset({Holder.CUSTOMER})),
    Scope("firmware:read", "Read firmware, releases, rollouts and the decision for each device.", _STAFF),
    Scope("firmware:write", "Upload, edit and delete firmware.", _STAFF),
    Scope("firmware:release", "Release and withdraw firmware, run rollouts, lock and flash devices, unlock and unblock them.", _STAFF),
    Scope("events:read", "Read and follow the events that devices publish.", _ALL),
    Scope("events:publish", "Publish events to a product.", _STAFF),
    Scope("customers:read", "Read customers and what they own.", _STAFF),
    Scope("customers:write", "Create, import and delete customers, assign devices to them, and make tokens for them.", _STAFF),
    Scope("audit:read", "Read who changed what, and when.", _STAFF),
)


def scopes_of(holder: Holder) -> tuple[str, ...]:
    """The names a token of this holder may have, in the order of the list."""
    return tuple(scope.name for scope in SCOPES if holder in scope.holders)


def parse_scopes(names: Sequence[str], *, holder: Holder, path: tuple[str, ...] = ("scopes",)) -> tuple[str, ...]:
    """The scopes asked for, each once and in the order of the list.

    Raises InvalidInput naming the whole list when there is none, an unknown one, or one this holder may not have.
    The unknown text itself is not repeated: people paste tokens into the wrong field.
    """
    allowed = scopes_of(holder)
    offered = f"A token of this kind ({holder.value}) may have: {', '.join(allowed)}."
    if not names:
        raise InvalidInput(f"Name at least one scope. {offered}", path=path)
    for index, name in enumerate(names):
        if name not in allowed:
            raise InvalidInput(f"This scope is unknown or not for this token. {offered}", path=(*path, str(index)))
    return tuple(name for name in allowed if name in names)


def covers(held: Collection[str] | None, needed: str) -> bool:
    """Whether a caller with the scopes `held` may do what needs `needed`; None is a session, limited by its role alone."""
    return held is None or needed in held
