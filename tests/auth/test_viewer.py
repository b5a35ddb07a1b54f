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
    Role.VIEWER: {
        *("organization.read", "organization.leave", "product.read", "device.read", "firmware.read", "event.read", "customer.read"),
        "rollout.read",
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
# Source: vocabulary, "Actors and roles": an API user never manages members, API users or billing.
PEOPLE_ONLY = {
    *("organization.leave", "organization.update", "member.write", "api_user.write", "signing_key.write"),
    *("billing.read", "billing.write", "oauth_client.write", "rollout.approve", "release.waive"),
}


def person(role: Role | None = None, *, scopes: list[str] | None = None) -> Viewer:
    seats: Any = {HERE: SimpleNamespace(role=role)} if role else {}
    token: Any = SimpleNamespace(scopes=scopes or [])
    user: Any = SimpleNamespace(id=3, email="ann@example.com")
    return Viewer(ViewerKind.USER, user=user, token=token, members=seats)


def machine(*scopes: str, product: int | None = None) -> Viewer:
    row: Any = SimpleNamespace(name="ci", scopes=list(scopes), organization_id=HERE, product_id=product)
    return Viewer(ViewerKind.API_USER, api_user=row)


def customer() -> Viewer:
    row: Any = SimpleNamespace(username="kim")
    token: Any = SimpleNamespace(scopes=["devices:read"])
    return Viewer(ViewerKind.CUSTOMER, customer=row, token=token)


def refusal(viewer: Viewer, action: str, organization: int = HERE, product: int | None = None) -> tuple[str, str | None] | None:
    try:
        viewer.must(action, organization, product)
    except CallerError as refused:
        return refused.code, refused.reason
    return None


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_the_weaker_ones_may_and_what_it_adds(role: Role) -> None:
    allowed = {action for weaker in Role if RANK[weaker] <= RANK[role] for action in ADDS[weaker]}

    assert {action for action in MAY if person(role).may(action, HERE)} == allowed


def test_every_action_needs_a_scope_that_exists_and_that_whoever_may_hold_it_can_have() -> None:
    names = {scope.name for scope in SCOPES}
    machines = set(scopes_of(Holder.API_USER))

    assert {rule.scope for rule in MAY.values()} <= names
    assert [action for action, rule in MAY.items() if rule.machines and rule.scope not in machines] == []


@pytest.mark.parametrize("action", sorted(MAY))
def test_a_scope_is_needed_whatever_the_role_and_widens_no_role(action: str) -> None:
    rule = MAY[action]

    assert person(Role.OWNER, scopes=[rule.scope]).may(action, HERE)
    assert refusal(person(Role.OWNER, scopes=["account:read"]), action) == ("FORBIDDEN", rule.scope)
    if rule.role is not Role.VIEWER:
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

    assert machine(rule.scope).may(action, HERE) is rule.machines
    assert refusal(machine(), action) == ("FORBIDDEN", rule.scope)
    assert rule.machines is (action not in PEOPLE_ONLY)


@pytest.mark.parametrize("action", sorted(action for action, rule in MAY.items() if rule.machines))
def test_a_machine_bound_to_a_product_sees_that_product_alone(action: str) -> None:
    bound = machine(MAY[action].scope, product=LAMP)

    assert refusal(bound, action, HERE, LAMP) is None
    assert refusal(bound, action, HERE, OTHER_PRODUCT) == ("NOT_FOUND", None)
    assert refusal(bound, action, HERE) == ("NOT_FOUND", None)
    assert bound.organization_ids == ()


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
