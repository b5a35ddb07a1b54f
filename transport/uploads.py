"""Files sent with an operation: the GraphQL multipart request, streamed to disk, its total size capped."""

from collections.abc import AsyncGenerator

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from transport.gate import Asked, Refusal, asked, check_length, json_value, too_large

FILES_MAX = 16
OPERATIONS_MAX = 1 << 20  # bytes of `operations` and of `map`


async def read(request: Request, size_max: int) -> Asked:
    """Read the whole request and put each file where `map` says.

    A file above 1 MiB lies on disk, never in memory. Raises Refusal: 413 as soon as `size_max` bytes are passed, 400 for any
    `operations` or `map` that is not what the GraphQL multipart request specification says.
    """
    check_length(request, size_max)
    parser = MultiPartParser(
        request.headers, _capped(request, size_max), max_files=FILES_MAX, max_fields=FILES_MAX, max_part_size=OPERATIONS_MAX
    )
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError, LookupError) as error:
        raise Refusal(400, f"This is not a multipart body: {getattr(error, 'message', 'it cannot be read')}") from None
    try:
        return _assembled(form)
    except BaseException:
        await form.close()
        raise


async def _capped(request: Request, size_max: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > size_max:
            raise too_large(size_max)
        yield chunk


def _assembled(form: FormData) -> Asked:
    operations, places = _json(form, "operations"), _json(form, "map")
    if isinstance(operations, list):
        raise Refusal(400, "Send one operation a request; batches are not accepted.")
    if not isinstance(operations, dict) or not isinstance(places, dict):
        raise Refusal(400, "`operations` and `map` must be JSON objects.")
    for name, paths in places.items():
        file = form.get(name)
        if not isinstance(file, UploadFile):
            raise Refusal(400, f"`map` names the file {name!r}, which was not sent.")
        if not isinstance(paths, list) or not paths:
            raise Refusal(400, f"`map` must give a list of paths for {name!r}.")
        for path in paths:
            _place(operations, path, file)
    return asked(operations, [file for file in form.values() if isinstance(file, UploadFile)])


def _json(form: FormData, name: str) -> object:
    text = form.get(name)
    if not isinstance(text, str):
        raise Refusal(400, f"Send `{name}` as a text field.")
    try:
        return json_value(text)
    except ValueError:
        raise Refusal(400, f"`{name}` is not JSON.") from None


def _place(operations: dict[str, object], path: object, file: UploadFile) -> None:
    """Put the file at `variables.…`, where the operation holds null, as the specification demands."""
    wrong = Refusal(400, f"`map` points at {path!r}; it must point at a null inside `variables`.")
    steps = path.split(".") if isinstance(path, str) else []
    if len(steps) < 2 or steps[0] != "variables":
        raise wrong
    holder: object = operations
    for step in steps[:-1]:
        holder = _at(holder, step, wrong)
    if _at(holder, steps[-1], wrong) is not None:
        raise wrong
    if isinstance(holder, list):
        holder[int(steps[-1])] = file
    elif isinstance(holder, dict):
        holder[steps[-1]] = file


def _at(holder: object, step: str, wrong: Refusal) -> object:
    if isinstance(holder, dict) and step in holder:
        return holder[step]
    if isinstance(holder, list) and step.isascii() and step.isdigit() and len(step) < 6 and int(step) < len(holder):
        return holder[int(step)]
    raise wrong
