"""What an error looks like from outside: a caller's mistake with its code, everything else INTERNAL with the id of its trace."""

import logging
import re
import secrets
from collections.abc import Iterable, Sequence

from graphql import ExecutionResult, GraphQLError
from strawberry.types import ExecutionResult as Executed

from errors import BadRequest, CallerError, ProviderUnreachable, QueryTooComplex, RateLimited
from transport.documents import DocumentRefused

log = logging.getLogger(__name__)
Answer = dict[str, object]  # one entry of `errors`, ready for JSON
_SUGGESTION = re.compile(r" ?Did you mean .*\?$", re.DOTALL)


class Masking:
    """Formats errors for one server. In production no error suggests a name."""

    def __init__(self, *, production: bool) -> None:
        self._production = production

    def refusal(self, error: Exception) -> list[Answer]:
        """What stopped an operation before it ran."""
        if isinstance(error, DocumentRefused):
            log.info("document refused: %s", error.code)
            return [self._located(each, _code_in(each) or error.code) for each in error.errors]
        if isinstance(error, CallerError):
            return [_entry(error.message, _extensions(error))]
        return [self._internal(GraphQLError(str(error), original_error=error), _traced([error]))]

    def executed(self, errors: Sequence[GraphQLError]) -> list[Answer]:
        """What came back from graphql-core beside the data; a variable that does not fit has no path."""
        unforeseen = [error for error in errors if _is_ours_to_explain(error)]
        request_id = _traced([error.original_error or error for error in unforeseen]) if unforeseen else ""
        return [self._one(error, request_id) for error in errors]

    def payload(self, result: Executed | ExecutionResult) -> Answer:
        """One result as it goes out; without `data` when the operation never began."""
        errors = self.executed(result.errors or [])
        if errors and result.data is None and not any("path" in error for error in errors):
            return {"errors": errors}
        return {"data": result.data} | ({"errors": errors} if errors else {})

    def _one(self, error: GraphQLError, request_id: str) -> Answer:
        if _is_ours_to_explain(error):
            return self._internal(error, request_id)
        return self._located(error, "BAD_USER_INPUT")

    def _located(self, error: GraphQLError, code: str) -> Answer:
        cause = _caller_error(error)
        message = cause.message if cause else error.message
        if self._production:
            message = _SUGGESTION.sub("", message)
        return _entry(message, _extensions(cause) if cause else {"code": code}, error)

    def _internal(self, error: GraphQLError, request_id: str) -> Answer:
        message = "Something went wrong on our side. Name the requestId when you report it."
        return _entry(message, {"code": "INTERNAL", "requestId": request_id}, error)


def _caller_error(error: GraphQLError) -> CallerError | None:
    """The caller's error inside, through the wrappings graphql-core adds on the way up."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause if isinstance(cause, CallerError) else None


def _code_in(error: GraphQLError) -> str | None:
    cause = _caller_error(error)
    return cause.code if cause else None


def _is_ours_to_explain(error: GraphQLError) -> bool:
    if _caller_error(error):
        return False
    # Only a variable or an argument that does not fit is the caller's; any other message may quote what is stored.
    if error.path is None:
        return not error.message.startswith("Variable '$")
    return not (isinstance(error.original_error, GraphQLError) and error.message.startswith("Argument '"))


def _traced(errors: Iterable[BaseException]) -> str:
    """Log the traces under one new id; the id is all that goes outside."""
    request_id = secrets.token_hex(8)
    for error in errors:
        log.error("request %s failed", request_id, exc_info=(type(error), error, error.__traceback__))
    return request_id


def _extensions(error: CallerError) -> Answer:
    extensions: Answer = {"code": error.code}
    if error.reason:
        extensions["reason"] = error.reason
    if error.path and isinstance(error, BadRequest):
        extensions["argument"] = ".".join(error.path)
    elif error.path:
        extensions["inputPath"] = list(error.path)
    if isinstance(error, RateLimited | ProviderUnreachable):
        extensions["retryAfter"] = error.retry_after
    if isinstance(error, QueryTooComplex):
        extensions |= {"found": error.found, "limit": error.limit}
    return extensions


def _entry(message: str, extensions: Answer, error: GraphQLError | None = None) -> Answer:
    entry: Answer = {"message": message}
    if error and error.locations:
        entry["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error and error.path is not None:
        entry["path"] = list(error.path)
    return entry | {"extensions": extensions}
