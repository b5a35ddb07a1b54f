"""Firmware, as far as groups need it."""

import strawberry

from models import firmware as rows
from schema.fields import Node, described, id_of, rows_of


@strawberry.type(description="One uploaded binary of a product.")
class Firmware(Node):
    is_type_of = rows_of(rows.Firmware)
    id: strawberry.ID = id_of("Firmware")
    version: int = described("Its version.")
