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


def approval_waived(actor: str, product: Product) -> Letter:
    name = name_line(product.name)
    return _letter(
        f"Releases of {name} need no approval any more",
        f"""{actor} has taken back that releases of {name} (product {product.number}) need a second person.
updateProduct with releasesNeedApproval: true demands it again.""",
    )


def _letter(subject: str, text: str) -> Letter:
    return lambda to: Mail(to, subject, f"Hello,\n\n{text}\n")
