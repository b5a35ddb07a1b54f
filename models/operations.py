"""What runs the house: due jobs, server processes and their beat, commands on their way to devices, keyed calls, the audit."""

from tortoise import fields
from tortoise.models import Model


class Job(Model):
    """Work to do after a commit. Idempotent; leased while it runs; parked after its last try."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(40)
    payload = fields.JSONField()
    due_at = fields.DatetimeField()
    attempts = fields.IntField(default=0)
    leased_until = fields.DatetimeField(null=True)
    leased_by = fields.CharField(32, null=True)
    done_at = fields.DatetimeField(null=True)
    parked_at = fields.DatetimeField(null=True)
    error = fields.TextField(null=True)

    class Meta:
        table = "job"
        indexes = (("done_at", "parked_at", "due_at"),)


class ServerProcess(Model):
    """A running server process; `beat` is raised while it lives, and whoever sees it stand still declares it dead."""

    id = fields.CharField(32, primary_key=True)
    started_at = fields.DatetimeField()
    beat = fields.BigIntField(default=0)
    draining = fields.BooleanField(default=False)

    class Meta:
        table = "server_process"


class Command(Model):
    """A function call, variable read or ping on its way to the process that holds the device's session, and its answer."""

    id = fields.CharField(32, primary_key=True)
    device_id = fields.CharField(24)
    process = fields.CharField(32)  # the session's holder when it was asked; only it may deliver
    epoch = fields.BigIntField()
    kind = fields.CharField(8)  # call | read | ping
    name = fields.CharField(64, default="")
    argument = fields.TextField(null=True)
    expires_at = fields.DatetimeField()
    taken_at = fields.DatetimeField(null=True)
    answered_at = fields.DatetimeField(null=True)
    value = fields.JSONField(null=True)
    error = fields.CharField(40, null=True)

    class Meta:
        table = "command"
        indexes = (("process", "taken_at"), ("expires_at",))


class KeyedCall(Model):
    """A mutation that came with an idempotency key, and what it was answered; fleet/repeating.py knows the rules.

    `id` and `fingerprint` are made with a key of the server's: neither the caller's key nor the input can be guessed from them.
    """

    id = fields.CharField(64, primary_key=True)  # whose key it is, and the key
    fingerprint = fields.CharField(64)  # what was asked, and what the token may do
    holder = fields.CharField(32)  # the call at work on it
    claimed_at = fields.DatetimeField(db_index=True)
    lapses_at = fields.DatetimeField()  # until then the holder is believed to be at work
    acted = fields.BooleanField(default=False)  # written in the transaction of the act
    answer = fields.TextField(null=True)  # sealed: it may hold a token

    class Meta:
        table = "keyed_call"


class AuditEntry(Model):
    """One act: who, what, on what, from where. Written in the transaction of the act; never changed."""

    id = fields.BigIntField(primary_key=True)
    organization = fields.ForeignKeyField("models.Organization", related_name=False, null=True)
    at = fields.DatetimeField()
    actor = fields.CharField(120)
    action = fields.CharField(60)
    subject = fields.CharField(120)
    detail = fields.JSONField()
    address = fields.CharField(45, null=True)

    class Meta:
        table = "audit_entry"
        indexes = (("organization_id", "id"),)
