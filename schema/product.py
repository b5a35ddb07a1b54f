"""Products: fleets with one platform."""

import strawberry

from models import product as rows
from schema.fields import Node, attribute, id_of, rows_of


@strawberry.type(description="A fleet with one platform.")
class Product(Node):
    is_type_of = rows_of(rows.Product)
    id: strawberry.ID = id_of("Product")
    product_id: int = attribute("number", "The number compiled into firmware; unique over the server.")
