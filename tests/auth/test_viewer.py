"""Who may do what: the table of actions held against the words of the roles, and the order in which refusals are told."""

from types import SimpleNamespace
from typing import Any

import pytest

from auth.scopes import SCOPES, Holder, scopes_of
from auth.viewer import MAY, RANK, Viewer, ViewerKind
from errors import CallerError
from models.organization import Role

HERE, ELSEWHERE = 1, 2
LAMP, OTHER_PRODUCT = 7, 8

# What a role adds to the weaker ones. Source: vocabulary, "Actors and roles"; guide, "Adding team members".
ADDS = {
    Role.NONE: {"organization.know", "organization.leave", "product.list"},
    Role.VIEWER: {
        *("organization.read", "product.read", "device.read", "firmware.read", "event.read", "customer.read", "rollout.read"),
    },
    Role.SUPPORT: {"device.call"},
    Role.DEVELOPER: {
        *("product.create", "product.update", "product.configure", "product.manufacture", "product.rotate_key"),
        *("device.register", "device.import", "device.update", "device.remove", "device.admit", "device.assign"),
        *("group.write", "firmware.write", "firmware.release", "firmware.flash", "customer.write", "customer.act_for"),
        *("rollout.steer", "rollout.approve", "oauth_client.read", "event.publish"),
    },
    Role.ADMIN: {
        "audit.read",
        "organization.update",
        "member.write",
        "api_user.write",
        "signing_key.write",
        "oauth_client.write",
        "billing.read",
        "billing.write",
    },
    Role.OWNER: {"release.waive"},
}
# What is about the organization itself; everything else is about one product, where a role in that one counts.
OF_TEAM = {
    *("organization.know", "organization.leave", "organization.read", "organization.update", "product.list", "product.create"),
    *("audit.read", "member.write", "api_user.write", "signing_key.write", "billing.read", "billing.write"),
}
# Source: vocabulary, "Actors and roles": an API user never manages members, API users or billing.
PEOPLE_ONLY = {
    *("organization.leave", "organization.update", "member.write", "api_user.write", "signing_key.write"),
    *("billing.read", "billing.write", "oauth_client.write", "rollout.approve", "release.waive"),
}


def person(role: Role | None = None, *, in_lamp: Role | None = None, scopes: list[str] | None = None) -> Viewer:
    seats: Any = {HERE: SimpleNamespace(role=role)} if role else {}
    token: Any = SimpleNamespace(scopes=scopes or [])
    user: Any = SimpleNamespace(id=3, email="ann@example.com")
    roles = {LAMP: in_lamp} if in_lamp else {}
    return Viewer(ViewerKind.USER, user=user, token=token, members=seats, product_roles=roles)


def machine(*scopes: str, product: int | None = None) -> Viewer:
    row: Any = SimpleNamespace(name="ci", scopes=list(scopes), organization_id=HERE, product_id=product)
    return Viewer(ViewerKind.API_USER, api_user=row)


def customer() -> Viewer:
    row: Any = SimpleNamespace(username="kim")
    token: Any = SimpleNamespace(scopes=["devices:read"])
    return Viewer(ViewerKind.CUSTOMER, customer=row, token=token)


def refusal(viewer: Viewer, action: str, organization: int = HERE, product: int = LAMP) -> tuple[str, str | None] | None:
    try:
        viewer.must(action, organization, None if action in OF_TEAM else product)
    except CallerError as refused:
        return refused.code, refused.reason
    return None


STRONGEST_FIRST = [Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.SUPPORT, Role.VIEWER, Role.NONE]


def may_by_the_words(action: str, of_team: Role, of_product: Role | None) -> bool:
    """The oracle: a role in the product replaces that of the team for everything but the organization itself."""
    counts = of_team if action in OF_TEAM or of_product is None else of_product
    return any(action in ADDS[weaker] for weaker in STRONGEST_FIRST[STRONGEST_FIRST.index(counts) :])


def told_by_the_words(action: str, of_team: Role, of_product: Role | None) -> tuple[str, str | None] | None:
    if may_by_the_words(action, of_team, of_product):
        return None
    is_hidden = action not in OF_TEAM and (of_product or of_team) is Role.NONE
    return ("NOT_FOUND", None) if is_hidden else ("FORBIDDEN", MAY[action].role)


EVERY_PAIR = [(of_team, of_product) for of_team in Role for of_product in (None, *Role)]


@pytest.mark.parametrize("action", sorted(MAY))
def test_a_role_in_the_product_replaces_the_one_in_the_organization_for_what_is_in_the_product(action: str) -> None:
    told = {pair: refusal(person(pair[0], in_lamp=pair[1]), action) for pair in EVERY_PAIR}

    assert told == {pair: told_by_the_words(action, *pair) for pair in EVERY_PAIR}


@pytest.mark.parametrize("action", sorted(MAY))
def test_a_role_in_one_product_is_none_in_another(action: str) -> None:
    told = {pair: refusal(person(pair[0], in_lamp=pair[1]), action, HERE, OTHER_PRODUCT) for pair in EVERY_PAIR}

    assert told == {(of_team, of_product): told_by_the_words(action, of_team, None) for of_team, of_product in EVERY_PAIR}


@pytest.mark.parametrize("action", sorted(OF_TEAM))
def test_no_role_in_a_product_counts_for_the_organization_itself(action: str) -> None:
    assert person(Role.NONE, in_lamp=Role.OWNER).may(action, HERE, LAMP) is (action in ADDS[Role.NONE])
    assert person(Role.OWNER, in_lamp=Role.VIEWER).may(action, HERE, LAMP)


def test_the_words_are_about_every_act_and_the_table_knows_which_are_about_the_organization() -> None:
    assert sorted(MAY) == sorted(action for added in ADDS.values() for action in added)
    assert {action for action, rule in MAY.items() if rule.team} == OF_TEAM


@pytest.mark.parametrize("action", sorted(MAY.keys() - OF_TEAM))
def test_an_act_on_a_product_cannot_be_asked_for_without_the_product(action: str) -> None:
    for viewer in (person(Role.OWNER), machine(MAY[action].scope)):
        with pytest.raises(TypeError, match="about a product"):
            viewer.must(action, HERE)


def test_every_action_needs_a_scope_that_exists_and_that_whoever_may_hold_it_can_have() -> None:
    names = {scope.name for scope in SCOPES}
    machines = set(scopes_of(Holder.API_USER))

    assert {rule.scope for rule in MAY.values()} <= names
    assert [action for action, rule in MAY.items() if rule.machines and rule.scope not in machines] == []


@pytest.mark.parametrize("action", sorted(MAY))
def test_a_scope_is_needed_whatever_the_role_and_widens_no_role(action: str) -> None:
    rule = MAY[action]

    assert refusal(person(Role.OWNER, scopes=[rule.scope]), action) is None
    assert refusal(person(Role.OWNER, scopes=["account:read"]), action) == ("FORBIDDEN", rule.scope)
    if RANK[rule.role] > RANK[Role.VIEWER]:
        assert refusal(person(Role.VIEWER, scopes=[rule.scope]), action) == ("FORBIDDEN", rule.role)


@pytest.mark.parametrize("action", sorted(MAY))
def test_nobody_and_strangers_are_told_the_same_of_every_action(action: str) -> None:
    assert refusal(Viewer(), action) == ("UNAUTHENTICATED", None)
    assert refusal(Viewer.house("gateway"), action) == ("UNAUTHENTICATED", None)
    assert refusal(customer(), action) == ("NOT_FOUND", None)
    assert refusal(person(), action) == ("NOT_FOUND", None)
    assert refusal(person(Role.OWNER), action, ELSEWHERE) == ("NOT_FOUND", None)
    assert refusal(machine(MAY[action].scope), action, ELSEWHERE) == ("NOT_FOUND", None)


@pytest.mark.parametrize("action", sorted(MAY))
def test_a_machine_may_what_its_scopes_say_except_to_manage_people_and_money(action: str) -> None:
    rule = MAY[action]

    assert (refusal(machine(rule.scope), action) is None) is rule.machines
    assert refusal(machine(), action) == ("FORBIDDEN", rule.scope)
    assert rule.machines is (action not in PEOPLE_ONLY)


@pytest.mark.parametrize("action", sorted(action for action, rule in MAY.items() if rule.machines))
def test_a_machine_bound_to_a_product_sees_that_product_alone(action: str) -> None:
    bound = machine(MAY[action].scope, product=LAMP)

    assert bound.may(action, HERE, LAMP)
    assert not bound.may(action, HERE, OTHER_PRODUCT)
    assert refusal(bound, action, HERE, OTHER_PRODUCT) == ("NOT_FOUND", None)
    assert bound.organization_ids == ()
    assert bound.reach == ((), (), (LAMP,))


def test_a_role_in_single_products_adds_them_to_what_is_there_or_takes_them_out() -> None:
    somewhere = person(Role.NONE, in_lamp=Role.VIEWER)
    elsewhere = person(Role.DEVELOPER, in_lamp=Role.NONE)

    assert (somewhere.organization_ids, somewhere.reach) == ((), ((), (), (LAMP,)))
    assert (elsewhere.organization_ids, elsewhere.reach) == ((HERE,), ((HERE,), (LAMP,), ()))
    assert person(Role.VIEWER, in_lamp=Role.OWNER).reach == ((HERE,), (), ())
    assert [somewhere.belongs_to(HERE, product) for product in (None, LAMP, OTHER_PRODUCT)] == [True, True, False]
    assert [elsewhere.belongs_to(HERE, product) for product in (None, LAMP, OTHER_PRODUCT)] == [True, False, True]


def test_only_a_person_who_logged_in_acts_on_the_account_itself() -> None:
    def told(viewer: Viewer, scope: str | None = None) -> tuple[str, str | None] | None:
        try:
            viewer.must_be_user(scope)
        except CallerError as refused:
            return refused.code, refused.reason
        return None

    program = person(scopes=["members:write"])
    assert (told(person()), told(person(), "members:write"), told(program, "members:write")) == (None, None, None)
    assert told(program) == ("FORBIDDEN", "SESSION")
    assert told(program, "account:read") == ("FORBIDDEN", "account:read")
    assert told(Viewer()) == ("UNAUTHENTICATED", None)
    assert told(machine("members:write"), "members:write") == ("FORBIDDEN", None)
    assert told(customer(), "devices:read") == ("FORBIDDEN", None)


def test_the_audit_names_whoever_acts() -> None:
    named = [viewer.actor for viewer in (person(), machine(), customer(), Viewer.house("gateway"), Viewer())]

    assert named == ["user:ann@example.com", "api-user:ci", "customer:kim", "gateway", "anonymous"]
