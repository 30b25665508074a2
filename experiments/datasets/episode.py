"""Episode (one recorded conversation) and field checks of JSON Lines readers.

Every error names the line, the field, and what to do about it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from learning.conversation.state import Message

BEGAN = 1_767_225_600.0
"""When every recorded conversation begins: 2026-01-01T00:00:00Z, in seconds since the epoch."""
TURN_SECONDS = 30.0

Record = Mapping[str, Any]


class StreamError(ValueError):
    """A file is not a stream that can be read; the message says where, what, and how to mend it."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One recorded conversation. Places are indexes into `messages`.

    `scored` are the messages to score, `labels` what was found true of them, (place, 0..1), soft
    where people disagreed; both ascending. Labels become known when the conversation ends.
    """

    id: str
    messages: tuple[Message, ...]
    labels: tuple[tuple[int, float], ...]
    scored: tuple[int, ...]


class FieldError(ValueError):
    """A field of the line at hand is wrong: which, how, and what to do."""


def open_file(path: Path) -> IO[bytes]:
    """A file to read, as bytes; StreamError where it cannot be."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise StreamError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise StreamError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def records(path: Path) -> Iterator[tuple[int, Record]]:
    """The objects of a JSON Lines file with their line numbers; blank lines are passed over."""
    with open_file(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                problem = f"byte {error.start + 1} is not UTF-8; save the file as UTF-8"
                raise StreamError(f"{path}, line {number}: {problem}") from None
            except json.JSONDecodeError as error:
                problem = f"is not JSON ({error.msg} at column {error.colno}); one object per line"
                raise StreamError(f"{path}, line {number}: {problem}") from None
            except (RecursionError, ValueError):
                problem = "nests too deeply, or has a number of too many digits; correct this line"
                raise StreamError(f"{path}, line {number}: {problem}") from None
            if not isinstance(record, dict):
                problem = f"is {json_kind(record)}; write one JSON object per conversation"
                raise StreamError(f"{path}, line {number}: {problem}")
            yield number, record


def require_field(record: Record, name: str, kind: type, where: str = "") -> Any:
    """The value of a field, or a complaint that names it. `float` takes any finite number."""
    if name not in record:
        raise FieldError(f"field {where}{name} is missing; add it as {_KINDS[kind]}")
    value = record[name]
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise FieldError(f"field {where}{name} is {json_kind(value)}; make it {_KINDS[kind]}")
    if kind is float and not math.isfinite(value):
        raise FieldError(f"field {where}{name} is {value}; make it a finite number")
    return value


_KINDS: Mapping[type, str] = {
    str: "a string",
    list: "a list",
    dict: "an object",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def json_kind(value: object) -> str:
    """The kind of a JSON value, in words."""
    return "null" if value is None else _KINDS.get(type(value), "a value of another kind")


def objects(record: Record, name: str) -> Iterator[tuple[str, Record]]:
    """The objects of a list, each with the words that say where it stands."""
    for place, entry in enumerate(require_field(record, name, list)):
        if not isinstance(entry, dict):
            raise FieldError(f"field {name}[{place}] is {json_kind(entry)}; make it an object")
        yield f"{name}[{place}].", entry


def id_of(record: Record, name: str) -> str:
    """A conversation's id, fit for an address: other characters than A-Z a-z 0-9 . _ - are _."""
    value = require_field(record, name, str)
    if not value:
        raise FieldError(f"field {name} is empty; give each conversation its own id")
    return re.sub(r"[^A-Za-z0-9._-]", "_", value)[:200]


def text_of(record: Record, where: str) -> str:
    """The text of a turn. Half a surrogate pair is valid JSON, but cannot be stored or sent."""
    text: str = require_field(record, "text", str, where)
    return text.encode("utf-8", "replace").decode("utf-8")


def author_of(record: Record, name: str, authors: Mapping[object, str], where: str) -> str:
    """The author in Baton's words, from a format's own."""
    if name not in record:
        raise FieldError(f"field {where}{name} is missing; add who spoke")
    value = record[name]
    if isinstance(value, (list, dict, bool)) or value not in authors:
        names = ", ".join(map(repr, authors))
        raise FieldError(f"field {where}{name} is {value!r}; use one of {names}")
    return authors[value]
