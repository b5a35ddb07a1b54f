"""Whoever is asking, and the one table of what they may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from auth.scopes import covers
from auth.walls import Granted
from errors import Forbidden, NotFound, OrganizationInactive, Unauthenticated
from models.account import ApiUser, Token, User
from models.customer import Customer
from models.organization import Member, Role


class ViewerKind(StrEnum):
    ANONYMOUS = "ANONYMOUS"
    USER = "USER"
    CUSTOMER = "CUSTOMER"
    API_USER = "API_USER"


RANK = {role: rank for rank, role in enumerate(reversed(Role))}


@dataclass(frozen=True, slots=True)
class Rule:
    """The weakest role that may, and the scope a token needs; machines=False keeps API users out whatever their scopes.

    `team`: it is about the organization itself, and no role in a product counts; every other act is about one product.
    `customers`: so may a customer, and a person with a kit of their own, with the devices that are theirs.
    `inside`: so may whoever is held inside groups, with what is in those; other acts are for those who see the whole product.
    """

    role: Role
    scope: str
    team: bool = False
    machines: bool = True
    customers: bool = False
    inside: bool = False


# Every act of a team, weakest role first. Source: vocabulary, "Actors and roles"; a verb without a row here cannot ask.
MAY: Mapping[str, Rule] = {
    "organization.know": Rule(Role.NONE, "organization:read", team=True, inside=True),
    "organization.leave": Rule(Role.NONE, "members:write", team=True, machines=False, inside=True),
    "product.list": Rule(Role.NONE, "products:read", team=True, inside=True),
    "organization.read": Rule(Role.VIEWER, "organization:read", team=True, inside=True),
    "product.read": Rule(Role.VIEWER, "products:read", inside=True),
    "device.read": Rule(Role.VIEWER, "devices:read", customers=True, inside=True),
    "firmware.read": Rule(Role.VIEWER, "firmware:read", inside=True),
    "event.read": Rule(Role.VIEWER, "events:read", customers=True, inside=True),
    "customer.read": Rule(Role.VIEWER, "customers:read", inside=True),
    "device.call": Rule(Role.SUPPORT, "devices:call", customers=True, inside=True),
    "product.create": Rule(Role.DEVELOPER, "products:write", team=True, inside=True),
    "product.update": Rule(Role.DEVELOPER, "products:write"),
    "product.configure": Rule(Role.DEVELOPER, "products:write"),
    "product.manufacture": Rule(Role.DEVELOPER, "products:write"),
    "product.rotate_key": Rule(Role.DEVELOPER, "products:write"),
    "device.register": Rule(Role.DEVELOPER, "devices:write", inside=True),
    "device.import": Rule(Role.DEVELOPER, "devices:write"),
    "device.update": Rule(Role.DEVELOPER, "devices:write", inside=True),
    "device.remove": Rule(Role.DEVELOPER, "devices:write", inside=True),
    "device.admit": Rule(Role.DEVELOPER, "devices:write", inside=True),
    "device.assign": Rule(Role.DEVELOPER, "customers:write", inside=True),
    "group.write": Rule(Role.DEVELOPER, "devices:write", inside=True),
    "firmware.write": Rule(Role.DEVELOPER, "firmware:write"),
    "firmware.release": Rule(Role.DEVELOPER, "firmware:release", inside=True),
    "firmware.flash": Rule(Role.DEVELOPER, "firmware:release", inside=True),
    "rollout.read": Rule(Role.VIEWER, "firmware:read"),
    "rollout.steer": Rule(Role.DEVELOPER, "firmware:release"),
    "rollout.approve": Rule(Role.DEVELOPER, "firmware:release", machines=False),
    "release.waive": Rule(Role.OWNER, "firmware:release", machines=False),
    "customer.write": Rule(Role.DEVELOPER, "customers:write"),
    "customer.act_for": Rule(Role.DEVELOPER, "customers:write"),
    "event.publish": Rule(Role.DEVELOPER, "events:publish"),
    "oauth_client.read": Rule(Role.DEVELOPER, "customers:read"),
    "audit.read": Rule(Role.ADMIN, "audit:read", team=True),
    "organization.update": Rule(Role.ADMIN, "organization:write", team=True, machines=False),
    "member.write": Rule(Role.ADMIN, "members:write", team=True, machines=False),
    "api_user.write": Rule(Role.ADMIN, "api_users:write", team=True, machines=False),
    "oauth_client.write": Rule(Role.ADMIN, "api_users:write", machines=False),
    "signing_key.write": Rule(Role.ADMIN, "organization:write", team=True, machines=False),
    "billing.read": Rule(Role.ADMIN, "billing:read", team=True, machines=False),
    "billing.write": Rule(Role.ADMIN, "billing:write", team=True, machines=False),
}


# What stays open to a team that does not pay: the way back, and out. Machines that stand for customers go on with their devices.
# Source: billing, "Access when LOCKED, INACTIVE or INCOMPLETE".
INACTIVE = "This organization's subscription is inactive: re-activate it under billing."
INSIDE_GROUPS = "INSIDE_GROUPS"  # the reason of a refusal
OPEN_TO_ALL = ("billing.read", "billing.write", "organization.leave")
OPEN_TO_MACHINES = ("device.read", "device.call", "event.read", "customer.act_for")


class Reach(NamedTuple):
    """The products somebody of a team sees: the organizations whose products they are, but for some; and others, one by one."""

    organization_ids: tuple[int, ...]
    hidden: tuple[int, ...]
    products: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whoever asks: a person, a machine, a customer, nobody; made anew for every request or operation.

    `members` holds the person's seats by organization id, `product_roles` by product id the roles that differ from their seat's.
    `token_scopes` None means: limited by the role alone.
    """

    kind: ViewerKind = ViewerKind.ANONYMOUS
    user: User | None = None
    api_user: ApiUser | None = None
    customer: Customer | None = None
    token: Token | None = None
    members: Mapping[int, Member] = field(default_factory=dict)
    product_roles: Mapping[int, Role] = field(default_factory=dict)
    address: str | None = None
    closed: frozenset[int] = frozenset()  # of their organizations, those whose team has no access now
    granted: Mapping[int, Granted] = field(default_factory=dict)  # by product: a team's wall, a customer's door
    acts_as: str | None = None  # the house itself, e.g. "gateway"; None for everybody outside

    @classmethod
    def house(cls, part: str, address: str | None = None) -> "Viewer":
        """The server acting by its own rules, for the audit; it passes no check of MAY."""
        return cls(acts_as=part, address=address)

    @property
    def actor(self) -> str:
        """How the audit names this viewer."""
        if self.user is not None:
            return f"user:{self.user.email}"[:120]
        if self.api_user is not None:
            return f"api-user:{self.api_user.name}"[:120]
        if self.customer is not None:
            return f"customer:{self.customer.username}"[:120]
        return self.acts_as or "anonymous"

    @property
    def identity(self) -> str | None:
        """Who it is, whichever token they came with; None for nobody."""
        for kind, row in (("user", self.user), ("api-user", self.api_user), ("customer", self.customer)):
            if row is not None:
                return f"{kind}:{row.id}"
        return None

    @property
    def token_scopes(self) -> tuple[str, ...] | None:
        if self.api_user is not None:
            narrowed = self.token.scopes if self.token is not None else []  # an OAuth client may ask for less than it has
            return tuple(scope for scope in self.api_user.scopes if not narrowed or scope in narrowed)
        if self.token is None or not self.token.scopes:
            return None
        return tuple(self.token.scopes)

    @property
    def bound_product_id(self) -> int | None:
        """The row id of the one product a machine may reach; None for everybody else."""
        bound: int | None = self.api_user.product_id if self.api_user else None  # type: ignore[attr-defined]  # Tortoise makes …_id
        return bound

    @property
    def organization_ids(self) -> tuple[int, ...]:
        """The organizations whose insides this viewer may reach: none for whoever is bound to products of it."""
        if self.api_user is None:
            return tuple(id for id in self.members if self.role_in(id) is not Role.NONE)
        return () if self.bound_product_id else (self.api_user.organization_id,)  # type: ignore[attr-defined]  # a Tortoise column

    @property
    def reach(self) -> Reach:
        """The products that are there for this viewer."""
        teams, bound = self.organization_ids, self.bound_product_id
        if bound is not None:
            return Reach(teams, (), (bound,))
        hidden = tuple(id for id, role in self.product_roles.items() if role is Role.NONE)
        has_all = len(teams) == len(self.members)  # then what else they have a role in is among theirs, and need not be named
        return Reach(teams, hidden, () if has_all else tuple(id for id in self.product_roles if id not in hidden))

    def walls_in(self, product_id: int | None) -> Granted | None:
        """What holds somebody of the team inside groups of this product; None: nothing does. Source: details, "Groups as walls"."""
        return None if self.customer is not None or product_id is None else self.granted.get(product_id)

    def is_held(self, organization_id: int, product_id: int | None) -> bool:
        """Whether less than the whole is theirs: of the product, or where none is named of any product of the organization."""
        if product_id is not None:
            return self.walls_in(product_id) is not None
        return any(groups.organization_id == organization_id for groups in self.granted.values())

    def role_in(self, organization_id: int, product_id: int | None = None) -> Role | None:
        """A person's role in the organization, or in a product of it; None for whoever has no seat there."""
        member = self.members.get(organization_id)
        if member is None:
            return None
        own = None if product_id is None else self.product_roles.get(product_id)
        return own or Role(member.role)

    def belongs_to(self, organization_id: int, product_id: int | None = None) -> bool:
        """Whether the organization, or this product of it, is there at all for this viewer."""
        if self.api_user is not None:
            ours = self.api_user.organization_id == organization_id  # type: ignore[attr-defined]  # a Tortoise column
            return ours and self.bound_product_id in (None, product_id)
        role = self.role_in(organization_id, product_id)
        return role is not None and (product_id is None or role is not Role.NONE)

    def may(self, action: str, organization_id: int, product_id: int | None = None) -> bool:
        """Whether this viewer may; every act that is not about the organization itself names its product."""
        rule = MAY[action]
        if product_id is None and not rule.team:
            raise TypeError(f"{action} is about a product, and none is named.")
        if not self.belongs_to(organization_id, product_id) or not covers(self.token_scopes, rule.scope):
            return False
        if not rule.inside and self.is_held(organization_id, product_id):
            return False
        if self.api_user is not None:
            return rule.machines
        role = self.role_in(organization_id, None if rule.team else product_id)
        return role is not None and RANK[role] >= RANK[rule.role]

    def must(self, action: str, organization_id: int, product_id: int | None = None) -> None:
        """Refuse unless this viewer may.

        Raises Unauthenticated for nobody, NotFound for a stranger (existence is a secret), Forbidden for the rest; and
        OrganizationInactive for whatever a team that does not pay has to do without.
        """
        self.must_be_allowed(action, organization_id, product_id)
        if organization_id in self.closed and action not in OPEN_TO_ALL and not (self.api_user and action in OPEN_TO_MACHINES):
            raise OrganizationInactive(INACTIVE)

    def must_be_allowed(self, action: str, organization_id: int, product_id: int | None = None) -> None:
        """The same, whether the team pays or not: for what an organization is called, and how it pays."""
        if self.may(action, organization_id, product_id):
            return
        self.must_be_somebody()
        if not self.belongs_to(organization_id, product_id):
            raise NotFound("There is no such thing, or you may not see it.")
        rule = MAY[action]
        self.must_hold(rule.scope)
        if not rule.inside and self.is_held(organization_id, product_id):
            raise Forbidden("You are held inside groups of the product, and this is about the whole of it.", reason=INSIDE_GROUPS)
        raise Forbidden(f"This needs the role {rule.role} or above; ask an owner or admin of the organization.", reason=rule.role)

    def must_with_own(self, action: str) -> None:
        """Refuse what cannot be done with a device that is one's own: a customer's, a person's kit. Raises Forbidden."""
        rule = MAY[action]
        if self.customer is not None and not rule.customers:
            raise Forbidden("Only the product's team can do this.")
        self.must_hold(rule.scope)

    def must_be_somebody(self) -> None:
        """Raises Unauthenticated for nobody."""
        if self.kind is ViewerKind.ANONYMOUS:
            raise Unauthenticated("Send a token: Authorization: Bearer …, or log in.")

    def must_be_user(self, scope: str | None = None) -> User:
        """The person asking: logged in, or by a token of theirs that has `scope`; without one, no program's token will do.

        Raises Unauthenticated for nobody, Forbidden for machines, customers and tokens that may not.
        """
        self.must_be_somebody()
        if self.user is None:
            raise Forbidden("Only a person's own account can do this; log in with e-mail and password.")
        if scope is not None:
            self.must_hold(scope)
        elif self.token_scopes is not None:
            raise Forbidden("A program's token cannot do this; log in with e-mail and password.", reason="SESSION")
        return self.user

    def must_be_customer(self) -> Customer:
        """The customer asking, who has logged in themselves: an app of theirs, and a token that the maker's server fetched, may less.

        Raises Unauthenticated for nobody, Forbidden.
        """
        self.must_be_somebody()
        if self.customer is None or self.token_scopes is not None:
            raise Forbidden("Only a customer can do this, logged in with user name and password.", reason="SESSION")
        return self.customer

    def must_hold(self, scope: str) -> None:
        """Refuse a token without this scope, where the thing is the viewer's own and no role decides. Raises Forbidden."""
        if not covers(self.token_scopes, scope):
            raise Forbidden(f"This token lacks the scope {scope}: use one that has it.", reason=scope)
