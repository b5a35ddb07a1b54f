"""Rows by key, gathered into one query for all that an operation asks for at the same moment."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from strawberry.dataloader import DataLoader
from tortoise.models import Model

from models.account import User
from models.customer import Customer
from models.firmware import Firmware
from models.organization import Organization
from models.product import Product

Row = TypeVar("Row", bound=Model)


class ByKey(Generic[Row]):
    """Loads rows of one table by primary key; a key that is None, or names nothing, gives None."""

    def __init__(self, table: type[Row]) -> None:
        self._table = table
        self._loader: DataLoader[Any, Row | None] = DataLoader(load_fn=self._load)

    async def load(self, key: object) -> Row | None:
        return None if key is None else await self._loader.load(key)

    async def _load(self, keys: Sequence[object]) -> list[Row | None]:
        found = {row.pk: row for row in await self._table.filter(pk__in=list(keys))}
        return [found.get(key) for key in keys]


class Loaders:
    def __init__(self) -> None:
        self.users: ByKey[User] = ByKey(User)
        self.organizations: ByKey[Organization] = ByKey(Organization)
        self.products: ByKey[Product] = ByKey(Product)
        self.firmwares: ByKey[Firmware] = ByKey(Firmware)
        self.customers: ByKey[Customer] = ByKey(Customer)
