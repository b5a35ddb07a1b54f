"""What a team's owners and admins are told by mail as it happens, because nobody may be looking."""

from collections.abc import Callable

from auth.sealing import Sealer
from fleet import jobs
from fleet.letters import name_line
from mailer import Mail
from models.organization import Member, Organization, Role
from models.product import Product

MANAGERS = (Role.OWNER.value, Role.ADMIN.value)

Letter = Callable[[str], Mail]  # by the address it goes to


async def tell(organization: Organization, letter: Letter, *, sealer: Sealer) -> None:
    """Promise the letter to each of them, inside the transaction in which it became so."""
    for member in await Member.filter(organization_id=organization.id, role__in=MANAGERS).select_related("user").order_by("id"):
        await jobs.mail(letter(member.user.email), sealer)


def firmware_damaged(product: Product, version: int, *, halted: bool) -> Letter:
    name = name_line(product.name)
    stopped = "Its releases have ended" + (", its rollout has halted" if halted else "") + ", and updates to it are canceled."
    return _letter(
        f"Firmware {version} of {name} is damaged",
        f"""the stored file of firmware {version} of {name} (product {product.number}) is not what was uploaded any more.
It is offered to no device. {stopped}
Devices that run it are not touched.

Upload the same file under the same version again: that heals it. What was released has then to be released anew.""",
    )


def glass_broken(actor: str, product: Product, version: int, because: str) -> Letter:
    name = name_line(product.name)
    return _letter(
        f"Firmware {version} of {name} goes out without a second person",
        f"""{actor} has approved their own rollout of firmware {version} of {name} (product {product.number}).
The reason given:

    {name_line(because)}

pauseRollout and abortRollout stop it; the audit log has the whole of it.""",
    )


def locked_alone(actor: str, product: Product, version: int, devices: int, because: str) -> Letter:
    name = name_line(product.name)
    return _letter(
        f"{devices} devices of {name} are locked without a second person",
        f"""{actor} has locked {devices} devices of {name} (product {product.number}) to firmware {version}, more than one person may.
The reason given:

    {name_line(because)}

unlockDevices lets them go; the audit log has the whole of it.""",
    )


def rollout_waits(actor: str, product: Product, version: int, group: str | None) -> Letter:
    name, to = name_line(product.name), "" if group is None else f", for the group {group}"
    return _letter(
        f"Firmware {version} of {name} waits for a second person",
        f"""{actor} wants to bring firmware {version} to {name} (product {product.number}){to}.
It begins when somebody else approves it with approveRollout, and ends by itself if nobody does within seven days.""",
    )


def approval_waived(actor: str, product: Product, group: str | None, *, is_over: bool) -> Letter:
    of = name_line(product.name) if group is None else f"{name_line(product.name)}, group {group}"
    subject = f"Releases of {of} need no approval any more" if is_over else f"More devices of {of} can be locked without approval"
    over = f"has taken back that releases to {of} (product {product.number}), and larger locks there, need a second person"
    more = f"lets one person lock more devices of {of} (product {product.number}) to a version than before"
    return _letter(subject, f"{actor} {over if is_over else more}.\nThe audit log has the whole of it.")


def _letter(subject: str, text: str) -> Letter:
    return lambda to: Mail(to, subject, f"Hello,\n\n{text}\n")
