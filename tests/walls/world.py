"""One tenant with something of every kind, each text of it bearing a word that nobody else may ever read."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auth.credentials import issue
from auth.scopes import Holder, scopes_of
from auth.tokens import Kind
from models.account import ApiUser, Token, User
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupGrant, GroupMembership, Presence
from models.firmware import Firmware, GroupRelease, ProductRelease, Update
from models.global_ids import global_id
from models.oauth import OAuthClient, OAuthConsent
from models.operations import AuditEntry
from models.organization import Invitation, Member, Organization, ProductRole, SigningKey
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
            "Member", "Organization", "Product", "Rollout", "SigningKey", "Update", "User",
        )
    }
    | {"Device": global_id("Device", "f" * 24), "OAuthClient": "an-app-that-is-nowhere", "external": "nobody-at-all"},
)  # fmt: skip


async def furnish(tester: HouseTester, word: str, number: int, digit: str) -> World:
    """A tenant whose slug, names, paths and texts all hold `word`, and whose device ids consist of `digit`."""
    owner = await tester.owner(f"{word}-owner", word)
    product = await a_product(tester, number, organization=word)
    await Product.filter(id=product.id).update(slug=f"{word}-lamp", name=f"{word} lamp", description=word)
    world = World(word, owner, {"product": number, "slug": f"{word}-lamp", "device": digit * 24, "organization": word, "group": word})
    world.names |= {
        "Organization": global_id("Organization", (await Organization.get(slug=word)).id), "Product": global_id("Product", product.id)
    }  # fmt: skip
    world.tokens["owner"] = owner
    group, beside = await _devices(product, world, digit)
    await _customers(product, world, digit)
    await _team(tester, beside, world)
    await _entrusted(tester, product, world, digit)
    await _firmware(tester, product, group, world)
    await _events(tester, product, world, digit)
    world.names["AuditEntry"] = await _of(AuditEntry, organization__slug=word)
    return world


async def _devices(product: Product, world: World, digit: str) -> tuple[DeviceGroup, DeviceGroup]:
    """One in the group that everything is about, one in a group beside it."""
    now, word = datetime.now(UTC), world.word
    group, beside = [await DeviceGroup.create(product=product, name=name, path=name, created_at=now) for name in (word, f"{word}-beside")]
    said = {"reported_product_id": product.number, "platform": "PHOTON", "firmware_version": 1, "proven": True}
    able = {"functions": [word], "variables": {word: "int32"}, "notes": word, "serial_number": word}
    for device_id, place in ((digit * 24, group), (digit * 23 + "0", beside)):
        row = await Device.create(device_id=device_id, product=product, created_at=now, name=word, **said, **able)
        await GroupMembership.create(group=place, device=row)
        await Presence.create(
            device=row, online=True, process=word, epoch=1, last_heard=now, last_handshake_at=now, connects_since=now, connects=1
        )
    world.names |= {"Device": global_id("Device", digit * 24), "DeviceGroup": global_id("DeviceGroup", group.id)}
    return group, beside


async def _customers(product: Product, world: World, digit: str) -> None:
    now = datetime.now(UTC)
    for name, device_id in (("lee", digit * 23 + "0"), ("kim", digit * 24)):
        called = f"{world.word}-{name}"
        row = await Customer.create(product=product, username=called, username_key=called, external_id=called, created_at=now)
        await Device.filter(device_id=device_id).update(owner_id=row.id)
        minted, _ = await issue(Kind.CUSTOMER, owner=row, now=now, scopes=scopes_of(Holder.CUSTOMER), expires_at=now + timedelta(days=1))
        world.tokens[name], world.names["Customer"], world.names["external"] = minted.text, global_id("Customer", row.id), called


async def _team(tester: HouseTester, beside: DeviceGroup, world: World) -> None:
    now, word = datetime.now(UTC), world.word
    team = await Organization.get(slug=word)
    machine = await ApiUser.create(organization=team, name=word, scopes=list(scopes_of(Holder.API_USER)), created_at=now)
    world.tokens["held"] = await tester.member(world.owner, f"{word}-held", "DEVELOPER", word)
    seat = await Member.get(user__email_key=f"{word}-held@example.com")
    await GroupGrant.create(group=beside, member=seat, created_at=now)
    await tester.person(f"{word}-guest")
    await _done(tester, "inviteMember", world.owner, organization=word, email=f"{word}-guest@example.com")
    await _done(tester, "createAccessToken", world.owner, name=word, scopes=["devices:read"])
    world.names |= {
        "AccessToken": await _of(Token, name=word),
        "ApiUser": global_id("ApiUser", machine.id),
        "Invitation": await _of(Invitation, organization_id=team.id, state="PENDING"),
        "Member": global_id("Member", seat.id),
        "User": global_id("User", seat.user_id),  # type: ignore[attr-defined]  # a Tortoise column
    }


async def _entrusted(tester: HouseTester, product: Product, world: World, digit: str) -> None:
    """A second product, one who is in that alone, and one who is in that and not in the first."""
    word, now, team = world.word, datetime.now(UTC), await Organization.get(slug=world.word)
    beside = await a_product(tester, product.number + 1, organization=word)
    await Product.filter(id=beside.id).update(slug=f"{word}-fan", name=f"{word} fan", description=word)
    await Device.create(device_id=digit * 22 + "22", product=beside, created_at=now, name=word)
    for who, role, entrusted, own in (("lifted", "NONE", beside, "DEVELOPER"), ("shut-out", "DEVELOPER", product, "NONE")):
        address = f"{word}-{who}@example.com"
        person = await User.create(email=address, email_key=address, name=f"{word}-{who}", password_hash="", created_at=now)
        world.tokens[who] = (await issue(Kind.SESSION, owner=person, now=now))[0].text
        seat = await Member.create(organization=team, user=person, role=role, joined_at=now)
        await ProductRole.create(member=seat, product=entrusted, role=own)


async def _firmware(tester: HouseTester, product: Product, group: DeviceGroup, world: World) -> None:
    """The key last: firmware would need a signature."""
    now, word, number = datetime.now(UTC), world.word, product.number
    said = {"title": word, "description": word, "binary": Sent(binary(number, 1))}
    await _done(tester, "uploadFirmware", world.owner, productId=number, version=1, **said)
    firmware = await Firmware.get(product=product, version=1)
    await GroupRelease.create(group=group, firmware=firmware, released_at=now)
    await ProductRelease.create(product=product, firmware=firmware, released_at=now)
    update = await Update.create(device_id=world.names["device"], firmware=firmware, state="FAILED", started_at=now, error=word)
    stages = [{"percent": 100, "maxFailurePercent": 0, "healthyForSeconds": 1}]
    rollout = await tester.do("startRollout", "rollout { id }", world.owner, productId=number, version=1, stages=stages, maxInFlight=1)
    app = {"client_id": f"{word}-app", "name": word, "redirect_uris": ["https://app.example.com/back"], "secret_digest": word}
    made = await OAuthClient.create(product=product, scopes=[], created_at=now, **app)
    kim = await Customer.get(product=product, username=f"{word}-kim")
    await OAuthConsent.create(client=made, customer=kim, scopes=["devices:read"], created_at=now)
    await _done(tester, "addSigningKey", world.owner, organization=word, name=word, publicKey=a_key())
    world.names |= {
        "Firmware": global_id("Firmware", firmware.id),
        "OAuthClient": made.client_id,
        "Rollout": rollout["rollout"]["id"],
        "SigningKey": await _of(SigningKey, organization__slug=word),
        "Update": global_id("Update", update.id),
    }


async def _events(tester: HouseTester, product: Product, world: World, digit: str) -> None:
    for device_id in (digit * 23 + "0", digit * 24):
        row = await Device.get(device_id=device_id)
        entry = NewEntry(product.number, "event", f"error/{world.word}", datetime.now(UTC), device_id, world.word)
        published = await tester.house.flusher.publish(entry, owner=row.owner_id)  # type: ignore[attr-defined]  # a Tortoise column
        world.names["DeviceEvent"] = global_id("DeviceEvent", published.position)
    await order(product, "ONLINE", digit * 24, kind="status")
    imported = await tester.do("importDevices", "import { id }", world.owner, productId=product.number, deviceIds=[digit * 22 + "11"])
    world.names["Import"] = imported["import"]["id"]


async def _done(tester: HouseTester, mutation: str, token: str, **input: Any) -> None:
    assert (await tester.do(mutation, "clientMutationId", token, **input))["errors"] == []


async def _of(table: Any, **which: Any) -> str:
    row = await table.filter(**which).first()
    return global_id("AccessToken" if table is Token else table.__name__, row.id)
