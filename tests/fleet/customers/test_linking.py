"""Apps that customers log in to: who may register one, where codes may go, and what stays secret."""

import pytest

from errors import InvalidInput
from fleet.customers.linking import require_redirect_uri
from models.account import ApiUser
from models.oauth import OAuthClient
from models.operations import AuditEntry
from tests.house import GraphQLFailed, HouseTester
from tests.oauth_house import REDIRECT, a_client, a_product
from tests.stored import everything, whatever_a_refusal_must_leave_alone

LISTED = "query ($id: Int!) { product(productId: $id) { oauthClients { clientId name redirectUri public scopes ownScopes } } }"
EVERY_SCOPE = ["devices:read", "devices:call", "devices:claim", "events:read"]


async def test_a_secret_is_shown_once_and_stored_nowhere(tester: HouseTester) -> None:
    owner = await tester.owner()

    client_id, secret = await a_client(tester, owner, await a_product(tester, owner))

    assert (len(client_id), str(secret)[:4]) == (32, "fls_")
    assert str(secret) not in str(await everything())


async def test_the_team_sees_its_apps_and_never_their_secrets(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await a_product(tester, owner)
    first, _ = await a_client(tester, owner, number, ownScopes=["events:read"])
    second, nothing = await a_client(tester, owner, number, name="Page", public=True, scopes=["devices:read"])

    found = (await tester.ask(LISTED, owner, id=number))["product"]["oauthClients"]

    assert nothing is None
    common = {"redirectUri": REDIRECT}
    assert found == [
        {"clientId": first, "name": "Porch", "public": False, "scopes": EVERY_SCOPE, "ownScopes": ["events:read"], **common},
        {"clientId": second, "name": "Page", "public": True, "scopes": ["devices:read"], "ownScopes": [], **common},
    ]


@pytest.mark.parametrize(("role", "code"), [("DEVELOPER", None), ("SUPPORT", "FORBIDDEN")])
async def test_developers_see_them_and_others_do_not(tester: HouseTester, role: str, code: str | None) -> None:
    owner = await tester.owner()
    number = await a_product(tester, owner)
    await a_client(tester, owner, number)
    member = await tester.member(owner, "dev", role)

    if code is None:
        assert len((await tester.ask(LISTED, member, id=number))["product"]["oauthClients"]) == 1
        return
    with pytest.raises(GraphQLFailed) as refused:
        await tester.ask(LISTED, member, id=number)
    assert refused.value.codes == [code]


async def test_only_a_product_whose_customers_log_in_so_has_apps(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    before = await whatever_a_refusal_must_leave_alone()

    refused = await tester.do("createOAuthClient", "clientId", owner, productId=number, name="Porch", redirectUri=REDIRECT)

    assert (refused["clientId"], [error["code"] for error in refused["errors"]]) == (None, ["WRONG_AUTH_METHOD"])
    assert await whatever_a_refusal_must_leave_alone() == before


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"name": " "}, ["input", "name"]),
        ({"redirectUri": "http://porch.example/back"}, ["input", "redirectUri"]),
        ({"redirectUris": ["https://porch.example/b", "http://porch.example/back"]}, ["input", "redirectUris", "1"]),
        ({"scopes": ["devices:read", "devices:write"]}, ["input", "scopes", "1"]),
        ({"ownScopes": ["firmware:write"]}, ["input", "ownScopes", "0"]),
        ({"ownScopes": ["devices:claim"]}, ["input", "ownScopes", "0"]),
        ({"ownScopes": ["devices:read"], "public": True}, ["input", "ownScopes"]),
    ],
)
async def test_what_cannot_be_registered_is_named(tester: HouseTester, given: dict[str, object], path: list[str]) -> None:
    owner = await tester.owner()
    number = await a_product(tester, owner)
    before = await whatever_a_refusal_must_leave_alone()

    asked = {"productId": number, "name": "Porch", "redirectUri": REDIRECT, **given}
    refused = await tester.do("createOAuthClient", "clientId", owner, **asked)

    assert [(error["code"], error["path"]) for error in refused["errors"]] == [("INVALID_INPUT", path)]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_an_app_has_several_addresses_and_changes_them(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await a_product(tester, owner)
    more = ["http://localhost/back", "https://porch.example/Back"]
    client_id, _ = await a_client(tester, owner, number, redirectUris=more)
    listed = "client { name redirectUri redirectUris }"

    changed = await tester.do("updateOAuthClient", listed, owner, clientId=client_id, name="Hall", redirectUris=more)
    audited = await tester.audited()
    same = await tester.do("updateOAuthClient", listed, owner, clientId=client_id, name="Hall")

    assert changed["client"] == same["client"] == {"name": "Hall", "redirectUri": more[0], "redirectUris": more}
    assert audited[-2:] == ["oauth_client.created", "oauth_client.updated"]
    entry = await AuditEntry.all().order_by("-id").first()
    assert entry is not None
    assert entry.detail["before"] == {"name": "Porch", "redirect_uris": [REDIRECT, *more]}
    assert await tester.audited() == audited, "what is the same already is no change"


async def test_unsafe_addresses_take_the_place_of_none(tester: HouseTester) -> None:
    owner = await tester.owner()
    client_id, _ = await a_client(tester, owner, await a_product(tester, owner))
    before = await whatever_a_refusal_must_leave_alone()

    for uris, path in (
        ([], ["redirectUris"]),
        ([REDIRECT, REDIRECT], ["redirectUris"]),
        ([f"https://porch.example/{number}" for number in range(11)], ["redirectUris"]),
        ([REDIRECT, "http://porch.example/back"], ["redirectUris", "1"]),
    ):
        refused = await tester.do("updateOAuthClient", "client { name }", owner, clientId=client_id, redirectUris=uris)
        assert [(error["code"], error["path"]) for error in refused["errors"]] == [("INVALID_INPUT", ["input", *path])]

    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_public_app_has_no_secret_to_rotate(tester: HouseTester) -> None:
    owner = await tester.owner()
    client_id, _ = await a_client(tester, owner, await a_product(tester, owner), public=True)
    before = await whatever_a_refusal_must_leave_alone()

    refused = await tester.do("rotateOAuthClientSecret", "clientSecret", owner, clientId=client_id)

    assert [error["code"] for error in refused["errors"]] == ["INVALID_INPUT"]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_deleted_app_leaves_no_machine_behind(tester: HouseTester) -> None:
    owner = await tester.owner()
    client_id, _ = await a_client(tester, owner, await a_product(tester, owner), ownScopes=["devices:read"])
    assert await ApiUser.all().count() == 1

    await tester.do("deleteOAuthClient", "clientMutationId", owner, clientId=client_id)

    assert (await OAuthClient.all().count(), await ApiUser.all().count()) == (0, 0)
    entry = await AuditEntry.all().order_by("-id").first()
    assert entry is not None
    assert (entry.action, entry.subject) == ("oauth_client.deleted", f"oauth-client:{client_id}")


SAFE = {
    "https://porch.example/back": False,
    "https://porch.example:8443/back?of=lamp": False,
    "http://127.0.0.1:5173/": False,
    "http://localhost/back": False,
    "http://[::1]:5173/back": False,
    "com.example.porch:/back": True,
}


@pytest.mark.parametrize("uri", SAFE)
def test_codes_go_over_tls_to_the_own_machine_or_to_an_app_of_a_named_maker(uri: str) -> None:
    assert require_redirect_uri(uri, public=True) == uri
    if SAFE[uri]:
        with pytest.raises(InvalidInput):
            require_redirect_uri(uri, public=False)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/back",
        "//porch.example/back",
        "porch.example/back",
        "http://porch.example/back",
        "http://127.0.0.1.evil.example/back",
        "http://localhost.evil.example/back",
        "https://porch.example/back#x",
        "https://ann:secret@porch.example/back",
        "https://porch.example@evil.example/back",
        "https://",
        "https:///back",
        "https://porch.example;script-src/back",
        "https://*.example/back",
        "https://porch.example/a b",
        "https://porch.example/\r\nX:y",
        'https://porch.example/"',
        "https://pörch.example/back",
        "javascript:alert(1)",
        "data:text/html,x",
        "porch:/back",
        "com.example.porch://evil/back",
        "https://[::1/back",
        "https://porch.example/" + "x" * 2000,
    ],
)
def test_everything_else_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        require_redirect_uri(uri, public=True)

    assert refused.value.path == ("redirectUri",)
