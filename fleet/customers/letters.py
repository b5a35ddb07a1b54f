"""The texts of the mails to customers, in the name of the organization whose product they use; nothing says where it runs."""

from datetime import datetime

from fleet.letters import moment, name_line
from mailer import Mail
from models.customer import Customer
from models.organization import Organization
from models.product import Product


def email_proof(to: str, *, token: str, expires_at: datetime, customer: Customer, product: Product) -> Mail:
    """Carry the token that proves the address, alone on its line, to whoever signed up with it."""
    return _letter(
        to,
        product,
        f"Your e-mail address for {name_line(product.name)}",
        f"""somebody, probably you, opened the account {name_line(customer.username)} for {name_line(product.name)}.
This code proves that the address {to} is yours:

{token}

Enter it where you signed up. It works once, until {moment(expires_at)}.

If it was not you, do nothing.""",
    )


def password_reset(to: str, *, token: str, expires_at: datetime, customer: Customer, product: Product) -> Mail:
    """Carry a reset token, alone on its line, to the customer who asked for a new password."""
    return _letter(
        to,
        product,
        f"A new password for {name_line(product.name)}",
        f"""somebody, probably you, asked for a new password for the account {name_line(customer.username)}
for {name_line(product.name)}. Your code is

{token}

Enter it where you asked for it, with your new password. It works once, until {moment(expires_at)}.

If it was not you, do nothing: your password stays as it is. Give the code to nobody.""",
    )


def password_changed(to: str, *, changed_at: datetime, customer: Customer, product: Product) -> Mail:
    """Tell a customer that the password is another one now, so that a thief cannot change it unseen."""
    return _letter(
        to,
        product,
        f"Your password for {name_line(product.name)} was changed",
        f"""the password of the account {name_line(customer.username)} for {name_line(product.name)}
was changed on {moment(changed_at)}. All other sessions of the account have ended.

If it was not you, ask for a new password at once, where you log in.""",
    )


def _letter(to: str, product: Product, subject: str, text: str) -> Mail:
    organization: Organization = product.organization
    team = name_line(organization.name)
    return Mail(to, subject, f"Hello,\n\n{text}\n\n{team}\n", sender_name=team)
