"""Who may call what: the one table, and what each of the cast is answered by it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.scenarios.stage import (
    ADMIN,
    BOUND,
    CUSTOMER,
    DEVELOPER,
    DONE,
    GRANTED,
    GUEST,
    INSIDE,
    LIFTED,
    LOWERED,
    MACHINE,
    NOBODY,
    OUTSIDE,
    PROGRAM,
    SHUT_OUT,
    STRANGER,
    SUPPORT,
    TEAM,
    VIEWER,
)

UNAUTHENTICATED, NOT_FOUND, FORBIDDEN = "UNAUTHENTICATED", "NOT_FOUND", "FORBIDDEN"
HELD = (INSIDE, OUTSIDE)
CUSTOMERS = (CUSTOMER, GRANTED)
ENTRUSTED = (LIFTED, LOWERED, SHUT_OUT)  # asked only where a role decides
PEOPLE = (*TEAM, *HELD, *ENTRUSTED, STRANGER, GUEST)
EVERYBODY = (NOBODY, *PEOPLE, *CUSTOMERS, PROGRAM, MACHINE, BOUND)
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
        if who in CUSTOMERS:
            return self.customer
        return _of_a_person(who) or DONE


@dataclass(frozen=True, slots=True)
class OwnCustomer:
    """What a customer does with their own account, who has logged in themselves."""

    scope: None = None

    def answer(self, who: str, *, has_scope: bool, by: str | None) -> str:
        return DONE if who in CUSTOMERS else UNAUTHENTICATED if who == NOBODY else FORBIDDEN


@dataclass(frozen=True, slots=True)
class Addressee:
    """What a person does with something that is theirs alone; it is whose the scenario says."""

    scope: str | None = None

    def answer(self, who: str, *, has_scope: bool, by: str | None) -> str:
        if who == PROGRAM:  # of somebody else
            return NOT_FOUND if self.scope and has_scope else FORBIDDEN
        return _of_a_person(who) or (DONE if who == by else NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an act reaches, as what those say who see a part: by default it is about the whole product, of no customer's knowledge.

    `inside` and `outside`: a developer held inside the group the device is in, or inside another. `customer` and `granted`: one of
    the product who does not have the device, and one who was granted its group.
    """

    inside: str = FORBIDDEN
    outside: str = FORBIDDEN
    customer: str = NOT_FOUND
    granted: str = NOT_FOUND


@dataclass(frozen=True, slots=True)
class Team:
    """What members do, from this role on, and machines unless they are kept out. `refuses`: a field of Query that is never null.

    It is about the product, unless `lifted` says what is answered to whoever has a role in products alone.
    """

    role: str
    scope: str
    machines: bool = True
    reach: Reach = Reach()
    refuses: bool = False
    lifted: str | None = None

    def answer(self, who: str, *, has_scope: bool, by: str | None) -> str:
        who = self._as_the_product_has_it(who)
        if who in TEAM:
            return DONE if TEAM.index(who) <= TEAM.index(self.role) else FORBIDDEN
        if who == LIFTED:
            return str(self.lifted)
        special = {INSIDE: self.reach.inside, OUTSIDE: self.reach.outside, CUSTOMER: self.reach.customer, GRANTED: self.reach.granted}
        if who in special:
            return special[who]
        if who == PROGRAM:
            return DONE if has_scope else FORBIDDEN
        if who == MACHINE:
            return DONE if has_scope and self.machines else FORBIDDEN
        return UNAUTHENTICATED if who == NOBODY else NOT_FOUND

    def _as_the_product_has_it(self, who: str) -> str:
        """Of those who have another role in the product, and in the organization, somebody who is answered alike."""
        if self.lifted is not None:
            return {LOWERED: DEVELOPER, SHUT_OUT: DEVELOPER}.get(who, who)
        return {LIFTED: DEVELOPER, LOWERED: SUPPORT, SHUT_OUT: STRANGER}.get(who, who)


def _of_a_person(who: str) -> str | None:
    """The refusal of whoever is none."""
    if who == NOBODY:
        return UNAUTHENTICATED
    return FORBIDDEN if who in (*CUSTOMERS, MACHINE, BOUND) else None


Rule = Public | Account | OwnCustomer | Addressee | Team

# ── how far an act reaches ──
ALL = Reach(inside=DONE, outside=DONE)  # nothing that a group could hold back
WHOLE = Reach(customer=FORBIDDEN, granted=FORBIDDEN)  # a product, which its customers know of
PART = Reach(inside=DONE, outside=NOT_FOUND)  # devices and groups, one by one
PART_OF_PRODUCT = Reach(inside=DONE, outside=NOT_FOUND, customer=FORBIDDEN, granted=FORBIDDEN)  # the same, by way of the product
CHANGE = Reach(inside=DONE, outside=NOT_FOUND, granted=FORBIDDEN)  # of a device that a customer sees, and the team alone changes
USE = Reach(inside=DONE, outside=NOT_FOUND, granted=DONE)  # what customers do with what is theirs
HIDDEN = Reach(inside=NOT_FOUND, outside=NOT_FOUND)  # what whoever is held inside groups never sees

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
    "updateOrganization": Team(ADMIN, "organization:write", machines=False, lifted=FORBIDDEN),
    "inviteMember": Team(ADMIN, "members:write", machines=False, lifted=FORBIDDEN),
    "acceptInvitation": Addressee("members:write"),
    "declineInvitation": Addressee("members:write"),
    "revokeInvitation": Team(ADMIN, "members:write", machines=False, lifted=NOT_FOUND),
    "changeMemberRole": Team(ADMIN, "members:write", machines=False, lifted=NOT_FOUND),
    "setProductRole": Team(ADMIN, "members:write", machines=False, lifted=NOT_FOUND),
    "removeProductRole": Team(ADMIN, "members:write", machines=False, lifted=NOT_FOUND),
    "removeMember": Team(ADMIN, "members:write", machines=False, lifted=NOT_FOUND),
    "createApiUser": Team(ADMIN, "api_users:write", machines=False, lifted=FORBIDDEN),
    "updateApiUser": Team(ADMIN, "api_users:write", machines=False, lifted=NOT_FOUND),
    "deleteApiUser": Team(ADMIN, "api_users:write", machines=False, lifted=NOT_FOUND),
    "addSigningKey": Team(ADMIN, "organization:write", machines=False, lifted=FORBIDDEN),
    "removeSigningKey": Team(ADMIN, "organization:write", machines=False, lifted=NOT_FOUND),
    # products
    "createProduct": Team(DEVELOPER, "products:write", reach=ALL, lifted=FORBIDDEN),
    "updateProduct": Team(DEVELOPER, "products:write", reach=WHOLE),
    "answerQuestions": Team(DEVELOPER, "products:write", reach=WHOLE),
    "startManufacturing": Team(DEVELOPER, "products:write", reach=WHOLE),
    "rotateProvisioningKey": Team(DEVELOPER, "products:write", reach=WHOLE),
    # devices
    "registerDevice": Account("devices:write", machine=NOT_FOUND),
    "importDevices": Team(DEVELOPER, "devices:write", reach=WHOLE),
    "undoImport": Team(DEVELOPER, "devices:write", reach=HIDDEN),
    "updateDevice": Team(DEVELOPER, "devices:write", reach=CHANGE),
    "removeDevices": Team(DEVELOPER, "devices:write", reach=CHANGE),
    "approveDevices": Team(DEVELOPER, "devices:write", reach=PART),
    "denyDevices": Team(DEVELOPER, "devices:write", reach=PART),
    "callFunction": Team(SUPPORT, "devices:call", reach=USE),
    "readVariable": Team(SUPPORT, "devices:call", reach=USE),
    "pingDevice": Team(SUPPORT, "devices:call", reach=USE),
    # groups
    "createDeviceGroup": Team(DEVELOPER, "devices:write", reach=PART_OF_PRODUCT),
    "renameDeviceGroup": Team(DEVELOPER, "devices:write", reach=PART),
    "updateDeviceGroup": Team(DEVELOPER, "devices:write", reach=Reach(outside=NOT_FOUND)),
    "deleteDeviceGroup": Team(DEVELOPER, "devices:write", reach=PART),
    "addDevicesToGroup": Team(DEVELOPER, "devices:write", reach=PART),
    "removeDevicesFromGroup": Team(DEVELOPER, "devices:write", reach=PART),
    "grantGroupAccess": Team(DEVELOPER, "customers:write", reach=HIDDEN),
    "revokeGroupAccess": Team(DEVELOPER, "customers:write", reach=Reach(outside=NOT_FOUND)),
    # firmware
    "uploadFirmware": Team(DEVELOPER, "firmware:write", reach=WHOLE),
    "updateFirmware": Team(DEVELOPER, "firmware:write"),
    "deleteFirmware": Team(DEVELOPER, "firmware:write"),
    "releaseFirmware": Team(DEVELOPER, "firmware:release"),
    "withdrawRelease": Team(DEVELOPER, "firmware:release", reach=WHOLE),
    "lockAndFlash": Team(DEVELOPER, "firmware:release", reach=PART_OF_PRODUCT),
    "unlockDevices": Team(DEVELOPER, "firmware:release", reach=PART_OF_PRODUCT),
    "unblockUpdates": Team(DEVELOPER, "firmware:release", reach=PART),
    # rollouts
    "startRollout": Team(DEVELOPER, "firmware:release"),
    "approveRollout": Team(DEVELOPER, "firmware:release", machines=False),
    "pauseRollout": Team(DEVELOPER, "firmware:release"),
    "resumeRollout": Team(DEVELOPER, "firmware:release"),
    "abortRollout": Team(DEVELOPER, "firmware:release"),
    # customers
    "signUpCustomer": Public(),
    "logInCustomer": Public(),
    "verifyCustomerEmail": Public(),
    "requestCustomerEmailVerification": Public(),
    "changeCustomerPassword": OwnCustomer(),
    "requestCustomerPasswordReset": Public(),
    "resetCustomerPassword": Public(),
    "createClaimCode": Team(
        DEVELOPER, "customers:write", reach=HIDDEN
    ),  # for a customer it names; tests/fleet/devices/test_claim_codes.py: one for themselves
    "claimDevice": Team(DEVELOPER, "customers:write", reach=HIDDEN),
    "importCustomers": Team(DEVELOPER, "customers:write", reach=WHOLE),
    "reissueActivationCode": Team(DEVELOPER, "customers:write", reach=HIDDEN),
    "createCustomerToken": Team(DEVELOPER, "customers:write", reach=HIDDEN),
    # OAuth
    "createOAuthClient": Team(ADMIN, "api_users:write", machines=False, reach=WHOLE),
    "updateOAuthClient": Team(ADMIN, "api_users:write", machines=False),
    "rotateOAuthClientSecret": Team(ADMIN, "api_users:write", machines=False),
    "deleteOAuthClient": Team(ADMIN, "api_users:write", machines=False),
    "createCustomer": Team(DEVELOPER, "customers:write", reach=WHOLE),
    "endConsent": Team(DEVELOPER, "customers:write", reach=HIDDEN),
    "deleteCustomer": Team(DEVELOPER, "customers:write", reach=HIDDEN),
    "assignDevice": Team(DEVELOPER, "customers:write", reach=HIDDEN),
    "unclaimDevice": Team(DEVELOPER, "customers:write", reach=CHANGE),
    # billing
    "createCardSetup": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    "updateCard": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    "changePlan": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    "cancelSubscription": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    "reactivateSubscription": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    "payOpenInvoice": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    "completeSandboxCardSetup": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    "advanceSandboxClock": Team(ADMIN, "billing:write", machines=False, lifted=FORBIDDEN),
    # events
    "publishEvent": Team(DEVELOPER, "events:publish", reach=WHOLE),
}

READINGS: Mapping[str, Rule] = {
    "server": Public(),
    "viewer": Public(),
    "rateLimit": Public(),
    "node": Team(VIEWER, "organization:read", reach=ALL, lifted=NOT_FOUND),
    "nodes": Team(VIEWER, "organization:read", reach=ALL, lifted=NOT_FOUND),
    "organization": Team(VIEWER, "organization:read", reach=ALL, lifted=FORBIDDEN),
    "product": Team(VIEWER, "products:read", reach=Reach(DONE, DONE, FORBIDDEN, FORBIDDEN)),
    "device": Team(VIEWER, "devices:read", reach=USE),
    "planRelease": Team(VIEWER, "firmware:read", refuses=True),
}

STREAMS: Mapping[str, Rule] = {
    "events": Team(VIEWER, "events:read", reach=Reach(DONE, DONE, DONE, DONE)),
    "deviceStatus": Team(VIEWER, "devices:read", reach=USE),
    "billingChanged": Team(ADMIN, "billing:read", machines=False, lifted=FORBIDDEN),
    "importProgress": Team(VIEWER, "devices:read", reach=HIDDEN),
    "rolloutProgress": Team(VIEWER, "firmware:read"),
}
