"""Imports: a list of device ids becomes devices of a product, piece by piece, with a verdict for every line."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from auth.credentials import viewer_again
from auth.viewer import Viewer
from billing.access import require_active
from blobs import BlobMissing
from errors import BinaryInvalid, InvalidInput
from fleet import jobs, scope
from fleet.auditing import record
from fleet.house import House
from fleet.imports.lines import FirstSeen, Stretch, count_lines, device_ids, read_stretch
from fleet.imports.pieces import CODE_OF, Judged, pack
from fleet.imports.verdicts import Outcome, Terms, Unsettled, take_in
from fleet.telling import order, status
from models.device import DeviceGroup
from models.importing import Import, ImportPiece, ImportState, ImportVerdict
from models.log import DeviceChange
from models.organization import Organization
from models.product import Product
from models.transaction import retrying, transaction
from realtime import log
from realtime.log import NewEntry
from settings import IDS_MAX, Settings

ANNOUNCED_LINES = 1_000  # an import of more lines tells the log of no single device: a million would drown everything else
AT_ONCE_GRACE = timedelta(seconds=60)  # a small import runs in its own request; only if that dies does a worker take it up
LOOK_EVERY_S = 0.2  # whoever follows an import
LEFT_AFTER = timedelta(days=1)  # a file that no import waits for belongs to one that never began


@dataclass(frozen=True, slots=True)
class Options:
    """How to import. `force`: treat the devices as the product's whatever they report. `dry_run`: verdicts alone."""

    force: bool = False
    dry_run: bool = False
    group: DeviceGroup | None = None


async def import_ids(product: Product, device_ids: Sequence[str], *, options: Options, house: House, by: Viewer) -> Import:
    """Import a list of at most 250 ids, each as if it were a line. Raises InvalidInput for more."""
    if len(device_ids) > IDS_MAX:
        raise InvalidInput(f"A list takes {IDS_MAX} ids; send more of them as a file.", path=("deviceIds",))
    text = "\n".join(" ".join(each.splitlines()) for each in device_ids)

    async def once() -> AsyncIterator[bytes]:
        yield text.encode(errors="replace")

    return await import_lines(product, once(), options=options, house=house, by=by, ids=[*device_ids])


async def import_lines(
    product: Product, chunks: AsyncIterable[bytes], *, options: Options, house: House, by: Viewer, ids: list[str] | None = None
) -> Import:
    """Import one device id a line, out of a file of any size: good lines are added even if others fail.

    The lines are kept first, where every server process finds them. A short list is judged before this returns; a long one goes on
    as a job, in pieces, and where a process dies in the middle another goes on behind the last piece. The same import again changes
    nothing.
    Raises InvalidInput for a file above the limit.
    Source: guide, "Adding Devices"; details, "Import".
    """
    organization: Organization = product.organization
    by.must("device.import", organization.id, product.id)
    require_active(organization)
    source, total = await _shelved(chunks, house)
    try:
        row = await _begin(product, source, total, options, ids, house.settings, by)
    except BaseException:
        await house.blobs.unshelve(source)
        raise
    if total <= house.settings.import_piece_lines:
        await run_import(row.id, house)
        await row.refresh_from_db()
    return row


async def run_import(import_id: int, house: House) -> None:
    """Judge what is left of an import. Harmless when it is done, or done twice at once."""
    source: str | None = None
    while (row := await Import.filter(id=import_id).select_related("product__organization").first()) is not None:
        if row.state != ImportState.RUNNING or row.source is None:
            break
        source = row.source
        try:
            async with house.blobs.at_hand(source) as path:
                await _run(row, path, house.settings)
        except (BlobMissing, FileNotFoundError):
            await _fail(row, "The file is gone: import it again.")
    if source is not None:
        await house.blobs.unshelve(source)


async def follow(import_id: int, *, house: House, by: Viewer) -> AsyncGenerator[Import, None]:
    """The import now, at each step forward, and when it has ended; as long as the viewer may read it.

    Raises Unauthenticated, NotFound, Forbidden once they may not.
    """
    before: tuple[object, ...] = ()
    key = ("import", by.token.id if by.token else None, import_id)
    while (row := await Import.filter(id=import_id).first()) is not None:
        if (row.state, row.processed) != before:
            yield row
        if row.state != ImportState.RUNNING:
            return
        before = (row.state, row.processed)
        await asyncio.sleep(LOOK_EVERY_S)
        await house.authorities.find(key, lambda: _readable(import_id, by))


async def _readable(import_id: int, by: Viewer) -> None:
    fresh = await viewer_again(by, now=datetime.now(UTC))
    await scope.readable_import(fresh, import_id)


async def forget_sources(house: House, now: datetime) -> int:
    """Remove files of imports that ended without removing them; for a daily sweep."""
    waiting = {str(row.source) for row in await Import.exclude(source=None)}
    left = [name async for name in house.blobs.shelved(now - LEFT_AFTER) if name not in waiting]
    for name in left:
        await house.blobs.unshelve(name)
    return len(left)


# ── taking the file ──
async def _shelved(chunks: AsyncIterable[bytes], house: House) -> tuple[str, int]:
    """The name the lines are kept under until they are judged, and how many there are."""
    cap = house.settings.upload_max_bytes
    try:
        async with house.blobs.receive(chunks, cap) as incoming:
            total = await asyncio.to_thread(count_lines, incoming.path)
            return await house.blobs.shelve(incoming), total
    except BinaryInvalid:
        raise InvalidInput(f"The file has more than {cap} bytes: split it.", path=("file",)) from None


async def _begin(
    product: Product, source: str, total: int, options: Options, ids: list[str] | None, settings: Settings, by: Viewer
) -> Import:
    now = datetime.now(UTC)
    at_once = total <= settings.import_piece_lines
    async with transaction():
        row = await Import.create(
            product=product,
            group=options.group,
            force=options.force,
            dry_run=options.dry_run,
            source=source,
            total=total,
            created_by=by.actor,
            created_at=now,
        )
        await jobs.put_down(jobs.IMPORT, {"import": row.id}, due_at=now + AT_ONCE_GRACE if at_once else now)
        if not options.dry_run:
            detail: dict[str, Any] = {"import": row.id, "lines": total, "force": options.force}
            detail |= {"group": options.group.path} if options.group else {}
            detail |= {"deviceIds": ids} if ids is not None else {}
            team = product.organization.id
            await record(by, "device.imported", f"product:{product.number}", organization_id=team, **detail)
    return row


# ── judging ──
@dataclass(frozen=True, slots=True)
class _Sifted:
    """A stretch, the id on each line, and the ids to be looked up: each for the first time in the file, in order."""

    stretch: Stretch
    ids: list[str | None]
    firsts: list[bool]
    wanted: list[str]


async def _run(row: Import, path: Path, settings: Settings) -> None:
    """Piece after piece, until the end or until another runner is seen to be ahead: then the caller begins again."""
    seen = await asyncio.to_thread(FirstSeen, path, row.total, row.next_line - 1)
    group_id = row.group_id  # type: ignore[attr-defined]  # a Tortoise column
    ended = False
    while not ended:
        sifted = await asyncio.to_thread(_sift, path, row.next_offset, settings.import_piece_lines, seen)
        terms = _terms(row, group_id)
        try:
            if not await retrying(lambda: _judge(row, sifted, terms)):  # noqa: B023  it is awaited right here
                return
        except Unsettled:
            return
        ended = sifted.stretch.ended
        row.next_offset, row.next_line = sifted.stretch.next_offset, row.next_line + len(sifted.ids)


def _sift(path: Path, offset: int, limit: int, seen: FirstSeen) -> _Sifted:
    stretch = read_stretch(path, offset, limit)
    ids = device_ids(stretch.lines)
    firsts = seen.firsts(ids)
    return _Sifted(stretch, ids, firsts, sorted(each for each, first in zip(ids, firsts, strict=True) if first and each))


def _terms(row: Import, group_id: int | None) -> Terms:
    product: Product = row.product
    return Terms(
        import_id=row.id,
        product_id=product.id,
        number=product.number,
        organization_id=product.organization.id,
        platform=product.platform,
        force=row.force,
        dry_run=row.dry_run,
        group_id=group_id,
        now=datetime.now(UTC),
    )


async def _judge(row: Import, sifted: _Sifted, terms: Terms) -> bool:
    """One piece, one transaction: devices, verdicts and the place to go on from. False when another runner was faster."""
    async with transaction():
        now = await Import.filter(id=row.id).select_for_update().first()
        if now is None or now.state != ImportState.RUNNING or now.next_offset != row.next_offset or now.next_line != row.next_line:
            return False
        outcome = await take_in(sifted.wanted, terms)
        judged = Judged(row.next_line, sifted.stretch.lines, _codes(sifted, outcome), outcome.formers)
        if judged.codes:
            await _write_piece(row.id, judged)
        await _advance(now, judged, sifted.stretch, terms.now)
        await log.append(*_news(row, sifted, outcome, terms))
    return True


def _codes(sifted: _Sifted, outcome: Outcome) -> bytes:
    added, invalid, twice = (CODE_OF[v] for v in (ImportVerdict.ADDED, ImportVerdict.INVALID_ID, ImportVerdict.DUPLICATE_LINE))
    if not outcome.verdicts and len(sifted.wanted) == len(sifted.ids):
        return bytes([added]) * len(sifted.ids)
    codes = {each: CODE_OF[verdict] for each, verdict in outcome.verdicts.items()}
    return bytes(
        (invalid if each is None else 0) if not each else codes.get(each, added) if first else twice
        for each, first in zip(sifted.ids, sifted.firsts, strict=True)
    )


async def _write_piece(import_id: int, judged: Judged) -> None:
    packed = await asyncio.to_thread(pack, judged)
    await ImportPiece.create(
        job_id=import_id, first_line=judged.first_line, lines=judged.counted, rejected=judged.rejected, verdicts=packed
    )


async def _advance(now: Import, judged: Judged, stretch: Stretch, at: datetime) -> None:
    done: dict[str, Any] = {"state": ImportState.FINISHED, "finished_at": at, "source": None} if stretch.ended else {}
    await Import.filter(id=now.id).update(
        next_offset=stretch.next_offset,
        next_line=judged.first_line + len(judged.codes),
        processed=now.processed + judged.counted,
        added=now.added + judged.added,
        rejected=now.rejected + judged.rejected,
        **done,
    )


def _news(row: Import, sifted: _Sifted, outcome: Outcome, terms: Terms) -> list[NewEntry]:
    """Small imports tell of every device added; of any size, sessions that are open hear that they belong here now."""
    if terms.dry_run:
        return []
    news = [*outcome.closing, *(order(each, terms.number, "consider", terms.now) for each in outcome.moved)]
    if row.total <= ANNOUNCED_LINES:
        added = [each for each in sifted.wanted if outcome.verdicts.get(each, ImportVerdict.ADDED) == ImportVerdict.ADDED]
        news += [status(each, terms.number, DeviceChange.ADDED, terms.now) for each in added]
    return news


async def _fail(row: Import, error: str) -> None:
    failed = {"state": ImportState.FAILED, "error": error, "finished_at": datetime.now(UTC), "source": None}
    await Import.filter(id=row.id, state=ImportState.RUNNING).update(**failed)
