"""Scopes: the list, who may hold what, and the refusal of the rest."""

import re

import pytest

from auth.scopes import SCOPES, Holder, covers, parse_scopes, scopes_of
from errors import InvalidInput


def test_every_scope_is_named_once_and_says_in_a_sentence_what_it_allows():
    assert len({scope.name for scope in SCOPES}) == len(SCOPES) == 21
    assert all(re.fullmatch(r"[a-z_]+:[a-z]+", scope.name) for scope in SCOPES)
    assert all(scope.description[0].isupper() and scope.description.endswith(".") for scope in SCOPES)
    assert all(scope.holders for scope in SCOPES)


def test_an_api_user_never_manages_members_api_users_or_billing():
    api_user = set(scopes_of(Holder.API_USER))

    assert not api_user & {"account:read", "organization:write", "members:write", "api_users:write", "billing:read", "billing:write"}
    assert {"devices:read", "devices:write", "firmware:release"} <= api_user


def test_a_customer_token_reaches_only_devices_and_their_events():
    assert scopes_of(Holder.CUSTOMER) == ("devices:read", "devices:call", "devices:claim", "events:read")


def test_scopes_come_back_once_each_and_in_the_order_of_the_list():
    asked = ["firmware:release", "devices:read", "firmware:release"]

    assert parse_scopes(asked, holder=Holder.API_USER) == ("devices:read", "firmware:release")


def test_an_unknown_scope_is_refused_with_the_list_and_its_place_and_without_repeating_it():
    with pytest.raises(InvalidInput) as refused:
        parse_scopes(["devices:read", "flp_secret"], holder=Holder.PERSON)

    assert refused.value.code == "INVALID_INPUT"
    assert refused.value.path == ("scopes", "1")
    assert all(name in refused.value.message for name in scopes_of(Holder.PERSON))
    assert "flp_secret" not in refused.value.message


@pytest.mark.parametrize(
    "name", ["members:write", "api_users:write", "billing:write", "devices:claim", "Devices:read", "devices:read ", ""]
)
def test_a_scope_the_holder_may_not_have_is_refused_like_an_unknown_one(name):
    with pytest.raises(InvalidInput) as refused:
        parse_scopes([name], holder=Holder.API_USER)

    assert refused.value.path == ("scopes", "0")


def test_a_token_without_any_scope_is_refused():
    with pytest.raises(InvalidInput, match="Name at least one scope"):
        parse_scopes([], holder=Holder.PERSON)


def test_write_does_not_include_read_and_a_session_is_limited_by_its_role_alone():
    assert covers(("devices:read",), "devices:read")
    assert not covers(("devices:write",), "devices:read")
    assert not covers((), "devices:read")
    assert covers(None, "devices:read")
