"""Operations asked for by a name instead of their text: automatic persisted queries, and documents the operator trusts."""

import hashlib
import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from graphql import GraphQLError

from errors import BadRequest, Forbidden
from settings import Settings, SettingsRefused
from transport.documents import DocumentRefused
from transport.gate import Asked

REMEMBERED = 1000  # documents learned from clients
REMEMBERED_BYTES = 8 << 20  # of their text, all together


class Persisted:
    """Finds the text behind a name. Names are hashes; what clients teach is kept in this process, the least recently used goes first."""

    def __init__(self, settings: Settings) -> None:
        self._trusted = read_trusted(settings.trusted_documents)
        self._trusted_texts = frozenset(self._trusted.values())
        self._trusted_only = settings.trusted_documents_only
        self._learned: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0

    def found(self, asked: Asked) -> Asked:
        """`asked` with its text. Raises DocumentRefused for a name nobody taught, BadRequest for one that is another text's,
        Forbidden for a document that is not trusted where only those are accepted."""
        text = self._text(asked)
        if self._trusted_only and text not in self._trusted_texts:
            raise Forbidden("This server runs only the documents it was given: ask for one of them by its hash.")
        return asked if text == asked.query else replace(asked, query=text)

    def _text(self, asked: Asked) -> str:
        name = asked.document_id
        if name is None:
            return asked.query
        trusted = self._trusted.get(name)
        if asked.query:
            if asked.query != trusted and hashlib.sha256(asked.query.encode()).hexdigest() != name:
                raise BadRequest("provided sha does not match query")
            return asked.query
        text = trusted or self._learned.get(name)
        if text is None:
            raise DocumentRefused("PERSISTED_QUERY_NOT_FOUND", [GraphQLError("PersistedQueryNotFound")])
        if trusted is None:
            self._learned.move_to_end(name)
        return text

    def learn(self, asked: Asked) -> None:
        """Remember a document that `found` let pass and that turned out to be valid."""
        name = asked.document_id
        if name is None or name in self._trusted or name in self._learned:
            return
        self._learned[name] = asked.query
        self._bytes += len(asked.query.encode())
        while len(self._learned) > REMEMBERED or self._bytes > REMEMBERED_BYTES:
            _, forgotten = self._learned.popitem(last=False)
            self._bytes -= len(forgotten.encode())


def read_trusted(path: Path | None) -> dict[str, str]:
    """The operator's documents by their hashes, which are compared and not computed. Raises SettingsRefused for a file that is no such."""
    if path is None:
        return {}
    try:
        documents = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsRefused(f"TRUSTED_DOCUMENTS {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise SettingsRefused(f"TRUSTED_DOCUMENTS {path} is not JSON in UTF-8.") from None
    if not isinstance(documents, dict) or not all(isinstance(text, str) and text.strip() for text in documents.values()):
        raise SettingsRefused(f"TRUSTED_DOCUMENTS {path} must be one JSON object: each hash with the text of its document.")
    return {name.removeprefix("sha256:"): text for name, text in documents.items()}
