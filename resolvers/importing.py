"""Doors of imports: starting and undoing them, their verdicts, and their progress."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from errors import BadRequest, InvalidInput
from fleet import scope
from fleet.imports import importing, undoing
from fleet.imports.pieces import ImportRow, rows_after
from models.global_ids import number_of
from models.importing import Import
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, decode_cursor, encode_cursor, page, shape
from resolvers.sent_files import chunks_of

Answer = Mapping[str, Any]


async def import_devices(
    context: Context, *, product_id: int, device_ids: list[str] | None = None, file: Any = None, **options: Any
) -> Answer:
    product = await scope.product(context.viewer, product_id)
    chosen = await _options(context, product, **options)
    if (device_ids is None) == (file is None):
        raise InvalidInput("Give the ids as `deviceIds` or as `file`, as exactly one of them.", path=("deviceIds",))
    if device_ids is not None:
        return {"import_": await importing.import_ids(product, device_ids, options=chosen, house=context.house, by=context.viewer)}
    return {"import_": await importing.import_lines(product, chunks_of(file), options=chosen, house=context.house, by=context.viewer)}


async def _options(
    context: Context, product: Product, force: bool | None = None, dry_run: bool | None = None, group: str | None = None
) -> importing.Options:
    found = await scope.group(context.viewer, product, group) if group is not None else None
    return importing.Options(force=bool(force), dry_run=bool(dry_run), group=found)


async def undo_import(context: Context, *, import_id: str) -> Answer:
    row = await scope.device_import(context.viewer, number_of("Import", import_id, path=("importId",)))
    return {"import_": await undoing.undo_import(row, house=context.house, by=context.viewer)}


async def import_progress(context: Context, *, import_id: str) -> AsyncGenerator[Import, None]:
    row = await by_id(context, import_id)
    return importing.follow(row.id, house=context.house, by=context.viewer)


# ── reading ──
async def by_id(context: Context, id: str) -> Import:
    return await scope.readable_import(context.viewer, number_of("Import", id))


async def imports(product: Product, context: Context, first: int | None, after: str | None) -> Page[Import]:
    context.viewer.must("device.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
    found = scope.imports(context.viewer, product)
    return await page(found, Slice.of(first, after), list_name=f"imports:{product.id}", order=Order(descending=True))


async def rows(row: Import, context: Context, first: int | None, after: str | None) -> Page[ImportRow]:
    return await _rows(row, Slice.of(first, after), rejected_only=False)


async def rejected(row: Import, context: Context, first: int | None, after: str | None) -> Page[ImportRow]:
    return await _rows(row, Slice.of(first, after), rejected_only=True)


async def _rows(row: Import, part: Slice, *, rejected_only: bool) -> Page[ImportRow]:
    name = f"import:{row.id}:{'rejected' if rejected_only else 'rows'}"
    found = await rows_after(row.id, _line(name, part.cursor), part.size + 1, rejected_only=rejected_only)

    async def count() -> int:
        return row.rejected if rejected_only else row.processed

    return shape(found, part, lambda each: encode_cursor(name, [each.line]), count)


def _line(name: str, cursor: str | None) -> int:
    keys = decode_cursor(name, cursor) if cursor is not None else [0]
    if len(keys) != 1 or not isinstance(keys[0], int) or not 0 <= keys[0] < 1 << 31:
        raise BadRequest("This cursor belongs to another list.", path=("after",))
    return keys[0]
