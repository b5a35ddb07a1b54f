"""One tenant with something of every kind, each text of it bearing a word that nobody else may ever read."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auth.credentials import issue
from auth.scopes import Holder, scopes_of
from auth.tokens import Kind
from models.account import ApiUser, Token
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupGrant, GroupMembership, Presence
from models.firmware import Firmware, GroupRelease, ProductRelease, Update
from models.global_ids import global_id
from models.operations import AuditEntry
from models.organization import Invitation, Member, Organization, SigningKey
from models.product import Product
from realtime.log import NewEntry
from tests.connected import a_product, order
from tests.firmware_house import Sent, binary
from tests.house import HouseTester


def a_key() -> str:
    """A public key whose other half nobody has."""
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class World:
    """What can be named of one tenant: by the word that inputs use for it, or by the type of its global id."""

    word: str
    owner: str = ""
    names: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def only(self, *kinds: str) -> "World":
        return World(self.word, self.owner, {kind: self.names[kind] for kind in kinds}, self.tokens)


NOWHERE = World(
    "nowhere",
    names={"product": 64000, "slug": "nowhere", "device": "f" * 24, "organization": "nowhere", "group": "nowhere/at-all"}
    | {
        kind: global_id(kind, 2_000_000_000)
        for kind in (
            "AccessToken", "ApiUser", "AuditEntry", "Customer", "DeviceEvent", "DeviceGroup", "Firmware", "Import", "Invitation", "Invoice",
            "Member", "Organization", "Product", "SigningKey", "Update", "User",
        )
    }
    | {"Device": global_id("Device", "f" * 24)},
)  # fmt: skip


async def furnish(tester: HouseTester, word: str, number: int, digit: str) -> World:
    """A tenant whose slug, names, paths and texts all hold `word`, and whose device ids consist of `digit`."""
    owner = await tester.owner(f"{word}-owner", word)
    now, team = datetime.now(UTC), await Organization.get(slug=word)
    product = await a_product(tester, number, organization=word)
    await Product.filter(id=product.id).update(slug=f"{word}-lamp", name=f"{word} lamp", description=word)
    # Devices, and what is known of them: one in the group that everything is about, one in a group beside it.
    group = await DeviceGroup.create(product=product, name=word, path=word, created_at=now)
    beside = await DeviceGroup.create(product=product, name=f"{word}-beside", path=f"{word}-beside", created_at=now)
    mine, other = digit * 24, digit * 23 + "0"
    said = {
        "reported_product_id": number,
        "platform": "PHOTON",
        "firmware_version": 1,
        "proven": True,
        "notes": word,
        "serial_number": word,
    }
    for device_id, place in ((mine, group), (other, beside)):
        row = await Device.create(
            device_id=device_id, product=product, created_at=now, name=word, functions=[word], variables={word: "int32"}, **said
        )
        await GroupMembership.create(group=place, device=row)
        await Presence.create(
            device=row, online=True, process=word, epoch=1, last_heard=now, last_handshake_at=now, connects_since=now, connects=1
        )
    # People and machines.
    customers = [
        await Customer.create(product=product, username=name, username_key=name, external_id=name, created_at=now)
        for name in (f"{word}-kim", f"{word}-lee")
    ]
    await Device.filter(device_id=mine).update(owner_id=customers[0].id)
    await Device.filter(device_id=other).update(owner_id=customers[1].id)
    machine = await ApiUser.create(organization=team, name=word, scopes=list(scopes_of(Holder.API_USER)), created_at=now)
    held = await tester.member(owner, f"{word}-held", "DEVELOPER", word)
    seat = await Member.get(user__email_key=f"{word}-held@example.com")
    await GroupGrant.create(group=beside, member=seat, created_at=now)
    await _done(tester, "inviteMember", owner, organization=word, email=await _guest(tester, word))
    await _done(tester, "createAccessToken", owner, name=word, scopes=["devices:read"])
    # Firmware, an update, an import, events; the key last: firmware would need a signature.
    await _done(
        tester,
        "uploadFirmware",
        owner,
        productId=number,
        version=1,
        title=word,
        description=word,
        binary=Sent(binary(number, 1)),
    )
    firmware = await Firmware.get(product=product, version=1)
    await GroupRelease.create(group=group, firmware=firmware, released_at=now)
    await ProductRelease.create(product=product, firmware=firmware, released_at=now)
    update = await Update.create(device_id=mine, firmware=firmware, state="FAILED", started_at=now, error=word)
    imported = await tester.do("importDevices", "import { id }", owner, productId=number, deviceIds=[digit * 22 + "11"])
    published = await tester.house.flusher.publish(NewEntry(number, "event", f"error/{word}", now, mine, word), owner=customers[0].id)
    await tester.house.flusher.publish(NewEntry(number, "event", f"error/{word}", now, other, word), owner=customers[1].id)
    await order(product, "ONLINE", mine, kind="status")
    await _done(tester, "addSigningKey", owner, organization=word, name=word, publicKey=a_key())

    world = World(word, owner)
    world.names = {"product": number, "slug": f"{word}-lamp", "device": mine, "organization": word, "group": word} | {
        "AccessToken": await _of(Token, name=word),
        "ApiUser": global_id("ApiUser", machine.id),
        "AuditEntry": await _of(AuditEntry, organization_id=team.id),
        "Customer": global_id("Customer", customers[0].id),
        "Device": global_id("Device", mine),
        "DeviceEvent": global_id("DeviceEvent", published.position),
        "DeviceGroup": global_id("DeviceGroup", group.id),
        "Firmware": global_id("Firmware", firmware.id),
        "Import": imported["import"]["id"],
        "Invitation": await _of(Invitation, organization_id=team.id, state="PENDING"),
        "Member": global_id("Member", seat.id),
        "Organization": global_id("Organization", team.id),
        "Product": global_id("Product", product.id),
        "SigningKey": await _of(SigningKey, organization_id=team.id),
        "Update": global_id("Update", update.id),
        "User": global_id("User", seat.user_id),  # type: ignore[attr-defined]  # a Tortoise column
    }
    world.tokens = {"owner": owner, "held": held}
    for name, row in (("kim", customers[0]), ("lee", customers[1])):
        minted, _ = await issue(Kind.CUSTOMER, owner=row, now=now, scopes=scopes_of(Holder.CUSTOMER), expires_at=now + timedelta(days=1))
        world.tokens[name] = minted.text
    return world


async def _done(tester: HouseTester, mutation: str, token: str, **input: Any) -> None:
    assert (await tester.do(mutation, "clientMutationId", token, **input))["errors"] == []


async def _guest(tester: HouseTester, word: str) -> str:
    await tester.person(f"{word}-guest")
    return f"{word}-guest@example.com"


async def _of(table: Any, **which: Any) -> str:
    return global_id(
        "AuditEntry" if table is AuditEntry else table.__name__.replace("Token", "AccessToken"), (await table.filter(**which).first()).id
    )
