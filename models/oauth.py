"""Logging in with a product's account elsewhere: the apps, what customers let them do, and the codes and tokens of that."""

from tortoise import fields
from tortoise.models import Model


class OAuthClient(Model):
    """An app that customers of one product may log in to with their account here."""

    id = fields.IntField(primary_key=True)
    client_id = fields.CharField(32, unique=True)  # public; nothing can be done with it alone
    product = fields.ForeignKeyField("models.Product", related_name=False, db_index=True)
    name = fields.CharField(100)
    redirect_uris = fields.JSONField()  # where codes may go: one of these, character by character
    secret_digest = fields.CharField(64, null=True)  # null: a public client, which cannot keep a secret
    scopes = fields.JSONField()  # what it may ask customers for
    api_user = fields.ForeignKeyField("models.ApiUser", related_name=False, null=True, on_delete=fields.SET_NULL)  # it without a customer
    created_at = fields.DatetimeField()

    class Meta:
        table = "oauth_client"


class OAuthConsent(Model):
    """What a customer once let an app do. Every code and token that came of it belongs to this one family, and ends with it."""

    id = fields.IntField(primary_key=True)
    client = fields.ForeignKeyField("models.OAuthClient", related_name=False, db_index=True)
    customer = fields.ForeignKeyField("models.Customer", related_name=False, db_index=True)
    scopes = fields.JSONField()
    created_at = fields.DatetimeField()
    revoked_at = fields.DatetimeField(null=True)

    class Meta:
        table = "oauth_consent"


class OAuthCode(Model):
    """An authorization code: good once, for seconds, with the verifier behind its challenge."""

    digest = fields.CharField(64, primary_key=True)
    consent = fields.ForeignKeyField("models.OAuthConsent", related_name=False, db_index=True)
    redirect_uri = fields.CharField(2000)
    challenge = fields.CharField(128)  # S256, the only method
    expires_at = fields.DatetimeField(db_index=True)
    used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "oauth_code"


class OAuthRefreshToken(Model):
    """Good once: using it makes the next one. One that is used again was stolen, from the app or by it."""

    digest = fields.CharField(64, primary_key=True)
    consent = fields.ForeignKeyField("models.OAuthConsent", related_name=False, db_index=True)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(db_index=True)
    used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "oauth_refresh_token"
