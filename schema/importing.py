"""Imports of devices: one verdict for every line, and the way back."""

import strawberry
from strawberry.file_uploads import Upload

import resolvers.importing as doors
from fleet.imports import pieces
from models import importing as rows
from models.importing import ImportState, ImportVerdict
from schema.fields import (
    AFTER,
    FIRST,
    Connection,
    DateTime,
    DeviceID,
    Input,
    KeyedInput,
    Node,
    Payload,
    asked,
    described,
    enumeration,
    id_of,
    mutation,
    optional,
    rows_of,
)

enumeration(
    ImportState,
    "How an import stands.",
    RUNNING="Lines are being judged.",
    FINISHED="Every line has its verdict.",
    FAILED="It could not go on; what was added stays, and can be undone.",
    UNDONE="It was taken back.",
)
enumeration(
    ImportVerdict,
    "What became of a line.",
    ADDED="The device is in the product now.",
    ALREADY_MEMBER="The device was in the product before.",
    DUPLICATE_LINE="An earlier line names the same device.",
    INVALID_ID="The line is no device id.",
    CLAIMED_BY_OUTSIDER="Somebody outside the team owns the device.",
    IN_OTHER_PRODUCT="The device belongs to another product.",
    WRONG_PLATFORM="The device has reported other hardware than the product's.",
)


@strawberry.type(description="A line of an import and its verdict.")
class ImportRow:
    is_type_of = rows_of(pieces.ImportRow)
    line: int = described("Its number in the file, blank lines counted, from 1.")
    text: str = described("The line as in the file, cut at 100 characters.")
    device_id: DeviceID | None = described("The device it names; null when it names none.")
    verdict: ImportVerdict = described("What became of it.")


@strawberry.type(description="An import of devices. Of a file above 1,000 lines, status messages do not name each device added.")
class Import(Node):
    is_type_of = rows_of(rows.Import)
    id: strawberry.ID = id_of("Import")
    created_at: DateTime = described("When it was asked for.")
    state: ImportState = described("How it stands.")
    dry_run: bool = described("Whether only verdicts were asked for, and nothing is changed.")
    total: int = described("Lines that are not blank.")
    processed: int = described("Lines that have their verdict.")
    added: int = described("Lines with the verdict ADDED.")
    rejected: Connection[ImportRow] = asked(
        doors.rejected, "Lines that neither added a device nor named a member, in order.", first=FIRST, after=AFTER
    )
    rows: Connection[ImportRow] = asked(doors.rows, "All lines that are not blank, in order.", first=FIRST, after=AFTER)
    undone_at: DateTime | None = described("When it was taken back; null: it was not.")
    error: str | None = described("Why it failed; null: it did not.")


# ── inputs and payloads ──
@strawberry.input(description="Devices for a product; exactly one of deviceIds and file.")
class ImportDevicesInput(KeyedInput):
    product_id: int = described("Which product.")
    device_ids: list[str] | None = optional("At most 250 device ids; each counts as a line.")
    file: Upload | None = optional("A text file with one device id a line. Blank lines, line endings, case and a BOM do not matter.")
    force: bool | None = optional(
        "Treat the devices, members that report something else too, as the product's until they first report it themselves."
    )
    dry_run: bool | None = optional("Only say what would become of each line.")
    group: str | None = optional("Put all devices named into this group, members too; its path, or its name while only one group bears it.")


@strawberry.type(description="The import; a small one is finished already, follow a large one by importProgress.")
class ImportDevicesPayload(Payload):
    import_: Import | None = strawberry.field(name="import", description="The import.", default=None)


@strawberry.input(description="An import that has ended.")
class UndoImportInput(Input):
    import_id: strawberry.ID = described("Its global id.")


@strawberry.type(description="The import; a large one is undone when `undoneAt` is set.")
class UndoImportPayload(Payload):
    import_: Import | None = strawberry.field(name="import", description="The import.", default=None)


@strawberry.type
class ImportMutations:
    import_devices: ImportDevicesPayload = mutation(
        doors.import_devices,
        ImportDevicesInput,
        ImportDevicesPayload,
        "Bring devices of the team, or of nobody, into a product: good lines are added even if others fail. A key that nobody of the team"
        " stands behind ends. Needs DEVELOPER.",
    )
    undo_import: UndoImportPayload = mutation(
        doors.undo_import,
        UndoImportInput,
        UndoImportPayload,
        "Take an import back: new devices go, moved ones return to where they were. What connected, or got an owner or a key since, stays."
        " Needs DEVELOPER.",
    )
