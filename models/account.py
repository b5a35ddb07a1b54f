"""Accounts of people and machines, and the tokens that prove who is asking."""

from tortoise import fields
from tortoise.models import Model


class User(Model):
    """A person's account. Which organization they belong to is a Member row."""

    id = fields.IntField(primary_key=True)
    email = fields.CharField(254)
    email_key = fields.CharField(254, unique=True)  # NFKC, casefold
    name = fields.CharField(100)
    password_hash = fields.CharField(200)
    created_at = fields.DatetimeField()

    class Meta:
        table = "user_account"


class ApiUser(Model):
    """A machine account of an organization, or of one of its products when `product` is set."""

    id = fields.IntField(primary_key=True)
    organization = fields.ForeignKeyField("models.Organization", related_name=False, db_index=True)
    product = fields.ForeignKeyField("models.Product", related_name=False, null=True)
    name = fields.CharField(100)
    scopes = fields.JSONField()  # list of names out of auth/scopes.py
    created_at = fields.DatetimeField()

    class Meta:
        table = "api_user"


class Token(Model):
    """What a bearer token stands for; the token itself is stored only as its SHA-256.

    Exactly one of user, api_user, customer is set. A user's log-in session is a token without a name.
    """

    id = fields.IntField(primary_key=True)
    digest = fields.CharField(64, unique=True)
    prefix = fields.CharField(16)  # the first characters, so that people can tell their tokens apart
    name = fields.CharField(100, default="")
    scopes = fields.JSONField()  # empty list = everything its owner may do
    user = fields.ForeignKeyField("models.User", related_name=False, null=True, db_index=True)
    api_user = fields.ForeignKeyField("models.ApiUser", related_name=False, null=True, db_index=True)
    customer = fields.ForeignKeyField("models.Customer", related_name=False, null=True, db_index=True)
    auth_method = fields.CharField(12, null=True)  # a customer's: how it was come by; good only while the product's answer is the same
    consent = fields.ForeignKeyField("models.OAuthConsent", related_name=False, null=True, db_index=True)  # the family it dies with
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    last_used_at = fields.DatetimeField(null=True)
    revoked_at = fields.DatetimeField(null=True)

    class Meta:
        table = "token"


class PasswordReset(Model):
    digest = fields.CharField(64, primary_key=True)
    user = fields.ForeignKeyField("models.User", related_name=False, db_index=True)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "password_reset"


class Throttle(Model):
    """When the debt of too many tries will be paid, shared by all server processes (auth/throttle.py)."""

    key = fields.CharField(64, primary_key=True)
    paid_at = fields.DatetimeField(db_index=True)

    class Meta:
        table = "throttle"
