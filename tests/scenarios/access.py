"""Who may call what: the one table, and what each of the cast is answered by it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.scenarios.stage import (
    ADMIN,
    BOUND,
    CUSTOMER,
    DEVELOPER,
    DONE,
    GUEST,
    MACHINE,
    NOBODY,
    PROGRAM,
    STRANGER,
    SUPPORT,
    TEAM,
    VIEWER,
)

UNAUTHENTICATED, NOT_FOUND, FORBIDDEN = "UNAUTHENTICATED", "NOT_FOUND", "FORBIDDEN"
PEOPLE = (*TEAM, STRANGER, GUEST)
EVERYBODY = (NOBODY, *PEOPLE, CUSTOMER, PROGRAM, MACHINE, BOUND)
SCOPED = (PROGRAM, MACHINE)  # asked twice: with every scope, and with every scope but the one that is needed


@dataclass(frozen=True, slots=True)
class Public:
    """Nobody needs to be known for it."""

    scope: None = None

    def answer(self, who: str, *, has_scope: bool, by: str | None) -> str:
        return DONE


@dataclass(frozen=True, slots=True)
class Account:
    """What a person does with what is their own. Without a scope no program may; `any_token`: whatever its scopes.

    `machine` is what is said to one that has the scope: it has nothing of its own.
    """

    scope: str | None = None
    any_token: bool = False
    machine: str = FORBIDDEN
    customer: str = FORBIDDEN

    def answer(self, who: str, *, has_scope: bool, by: str | None) -> str:
        if who == PROGRAM:
            return DONE if self.any_token or (self.scope and has_scope) else FORBIDDEN
        if who in (MACHINE, BOUND) and has_scope:
            return self.machine
        if who == CUSTOMER:
            return self.customer
        return _of_a_person(who) or DONE


@dataclass(frozen=True, slots=True)
class Addressee:
    """What a person does with something that is theirs alone; it is whose the scenario says."""

    scope: str | None = None

    def answer(self, who: str, *, has_scope: bool, by: str | None) -> str:
        if who == PROGRAM:  # of somebody else
            return NOT_FOUND if self.scope and has_scope else FORBIDDEN
        return _of_a_person(who) or (DONE if who == by else NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Team:
    """What members do, from this role on, and machines unless they are kept out."""

    role: str
    scope: str
    machines: bool = True

    def answer(self, who: str, *, has_scope: bool, by: str | None) -> str:
        if who in TEAM:
            return DONE if TEAM.index(who) <= TEAM.index(self.role) else FORBIDDEN
        if who == PROGRAM:
            return DONE if has_scope else FORBIDDEN
        if who == MACHINE:
            return DONE if has_scope and self.machines else FORBIDDEN
        return UNAUTHENTICATED if who == NOBODY else NOT_FOUND


def _of_a_person(who: str) -> str | None:
    """The refusal of whoever is none."""
    if who == NOBODY:
        return UNAUTHENTICATED
    return FORBIDDEN if who in (CUSTOMER, MACHINE, BOUND) else None


Rule = Public | Account | Addressee | Team

# ── the table ──
MUTATIONS: Mapping[str, Rule] = {
    # accounts
    "signUp": Public(),
    "logIn": Public(),
    "logOut": Account(any_token=True, customer=DONE),
    "changePassword": Account(),
    "requestPasswordReset": Public(),
    "resetPassword": Public(),
    "createAccessToken": Account(),
    "revokeAccessToken": Addressee(),
    # organizations
    "createOrganization": Account("organization:write"),
    "updateOrganization": Team(ADMIN, "organization:write", machines=False),
    "inviteMember": Team(ADMIN, "members:write", machines=False),
    "acceptInvitation": Addressee("members:write"),
    "declineInvitation": Addressee("members:write"),
    "revokeInvitation": Team(ADMIN, "members:write", machines=False),
    "changeMemberRole": Team(ADMIN, "members:write", machines=False),
    "removeMember": Team(ADMIN, "members:write", machines=False),
    "createApiUser": Team(ADMIN, "api_users:write", machines=False),
    "updateApiUser": Team(ADMIN, "api_users:write", machines=False),
    "deleteApiUser": Team(ADMIN, "api_users:write", machines=False),
    "addSigningKey": Team(ADMIN, "organization:write", machines=False),
    "removeSigningKey": Team(ADMIN, "organization:write", machines=False),
    # products
    "createProduct": Team(DEVELOPER, "products:write"),
    "updateProduct": Team(DEVELOPER, "products:write"),
    "answerQuestions": Team(DEVELOPER, "products:write"),
    "startManufacturing": Team(DEVELOPER, "products:write"),
    "rotateProvisioningKey": Team(DEVELOPER, "products:write"),
    # devices
    "registerDevice": Account("devices:write", machine=NOT_FOUND),
    "importDevices": Team(DEVELOPER, "devices:write"),
    "undoImport": Team(DEVELOPER, "devices:write"),
    "updateDevice": Team(DEVELOPER, "devices:write"),
    "removeDevices": Team(DEVELOPER, "devices:write"),
    "approveDevices": Team(DEVELOPER, "devices:write"),
    "denyDevices": Team(DEVELOPER, "devices:write"),
    "callFunction": Team(SUPPORT, "devices:call"),
    "readVariable": Team(SUPPORT, "devices:call"),
    "pingDevice": Team(SUPPORT, "devices:call"),
    # groups
    "createDeviceGroup": Team(DEVELOPER, "devices:write"),
    "renameDeviceGroup": Team(DEVELOPER, "devices:write"),
    "deleteDeviceGroup": Team(DEVELOPER, "devices:write"),
    "addDevicesToGroup": Team(DEVELOPER, "devices:write"),
    "removeDevicesFromGroup": Team(DEVELOPER, "devices:write"),
    # firmware
    "uploadFirmware": Team(DEVELOPER, "firmware:write"),
    "updateFirmware": Team(DEVELOPER, "firmware:write"),
    "deleteFirmware": Team(DEVELOPER, "firmware:write"),
    "releaseFirmware": Team(DEVELOPER, "firmware:release"),
    "withdrawRelease": Team(DEVELOPER, "firmware:release"),
    "lockAndFlash": Team(DEVELOPER, "firmware:release"),
    "unlockDevices": Team(DEVELOPER, "firmware:release"),
    "unblockUpdates": Team(DEVELOPER, "firmware:release"),
    # customers
    "signUpCustomer": Public(),
    "logInCustomer": Public(),
    "verifyCustomerEmail": Public(),
    "requestCustomerPasswordReset": Public(),
    "resetCustomerPassword": Public(),
    "createClaimCode": Team(DEVELOPER, "customers:write"),  # for a customer it names; tests/fleet/test_claim_codes.py: one for themselves
    "claimDevice": Team(DEVELOPER, "customers:write"),
    "importCustomers": Team(DEVELOPER, "customers:write"),
    "reissueActivationCode": Team(DEVELOPER, "customers:write"),
    "createCustomerToken": Team(DEVELOPER, "customers:write"),
    "createCustomer": Team(DEVELOPER, "customers:write"),
    "deleteCustomer": Team(DEVELOPER, "customers:write"),
    "assignDevice": Team(DEVELOPER, "customers:write"),
    "unclaimDevice": Team(DEVELOPER, "customers:write"),
    # billing
    "createCardSetup": Team(ADMIN, "billing:write", machines=False),
    "updateCard": Team(ADMIN, "billing:write", machines=False),
    "changePlan": Team(ADMIN, "billing:write", machines=False),
    "cancelSubscription": Team(ADMIN, "billing:write", machines=False),
    "reactivateSubscription": Team(ADMIN, "billing:write", machines=False),
    "payOpenInvoice": Team(ADMIN, "billing:write", machines=False),
    "completeSandboxCardSetup": Team(ADMIN, "billing:write", machines=False),
    "advanceSandboxClock": Team(ADMIN, "billing:write", machines=False),
    # events
    "publishEvent": Team(DEVELOPER, "events:publish"),
}

READINGS: Mapping[str, Rule] = {
    "server": Public(),
    "viewer": Public(),
    "rateLimit": Public(),
    "node": Team(VIEWER, "organization:read"),
    "nodes": Team(VIEWER, "organization:read"),
    "organization": Team(VIEWER, "organization:read"),
    "product": Team(VIEWER, "products:read"),
    "device": Team(VIEWER, "devices:read"),
}
