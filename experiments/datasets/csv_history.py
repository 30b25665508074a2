"""CSV history: a helpdesk's or bot's export, a message a row, as Baton's own JSON Lines format.

Columns are named by a mapping from Baton's fields; rows of a conversation may stand anywhere, in
their order. All rows that cannot be read are told at once.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from experiments.datasets.episode import StreamError
from learning.ledger.lessons import VERDICTS

FIELDS = (
    "conversation_id", "id", "author", "text", "at", "language", "verdict", "first_needed",
    "escalated",
)  # fmt: skip
"""What a column may be. `verdict` is the conversation's, in any of its rows; `first_needed` and
`escalated` mark (1, true, yes, x) the message since which a person was needed, and that led to one.
"""

REQUIRED = ("conversation_id", "author", "text")
ERRORS_MAX = 100
"""Bad rows that are told one by one; of more, their number."""

AUTHORS: Mapping[str, str] = {
    **dict.fromkeys(("user", "customer", "client", "visitor", "contact", "end_user"), "user"),
    **dict.fromkeys(("bot", "assistant", "chatbot", "automation"), "bot"),
    **dict.fromkeys(("agent", "operator", "human", "staff", "support", "admin"), "agent"),
    **dict.fromkeys(("system", "event", "activity"), "system"),
}
"""Who speaks, by the words that other systems use; `--author Word=user` adds to them."""

_TRUE, _FALSE = ("1", "true", "yes", "x"), ("", "0", "false", "no")


@dataclass(frozen=True, slots=True)
class CsvMapping:
    """Baton's fields by the file's columns, and words for who speaks besides AUTHORS."""

    columns: Mapping[str, str] = field(default_factory=dict)
    authors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, columns: Sequence[str], authors: Sequence[str]) -> CsvMapping:
        """From `field=Column` and `Word=user` as a command line has them. Raises StreamError."""
        mapping = cls(_pairs(columns), {k.lower(): v for k, v in _pairs(authors).items()})
        for name in mapping.columns:
            if name not in FIELDS:
                raise StreamError(f"--map {name}=...: a field is one of {', '.join(FIELDS)}")
        for name, author in mapping.authors.items():
            if author not in ("user", "bot", "agent", "system"):
                raise StreamError(f"--author {name}={author}: it is user, bot, agent or system")
        return mapping


def _pairs(options: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not (name and sign and value):
            raise StreamError(f"{option!r}: write it as name=value")
        pairs[name] = value
    return pairs


@dataclass(slots=True)
class _Conversation:
    messages: list[dict[str, Any]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    verdict_line: int = 0


def convert(path: Path, into: Path, mapping: CsvMapping) -> int:
    """Write a CSV file as Baton's JSON Lines; gives the number of conversations.

    Raises StreamError, which tells of every bad row.
    """
    conversations: dict[str, _Conversation] = {}
    problems: list[str] = []
    for line, row in _rows(path, mapping):
        try:
            _add(conversations, line, row, mapping)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if not conversations and not problems:
        raise StreamError(f"{path}: holds no message; write one a row, under a row of names")
    for conversation in conversations.values():
        if conversation.outcome and "verdict" not in conversation.outcome:
            first = min(conversation.lines.values())
            problems.append(f"line {first}: its conversation has marks and no verdict")
    if problems:
        more = len(problems) - ERRORS_MAX
        shown = problems[:ERRORS_MAX] + ([f"and {more} more"] if more > 0 else [])
        raise StreamError("\n".join((f"{path}: {len(problems)} bad rows", *shown)))
    with into.open("w", encoding="utf-8") as file:
        for name, conversation in conversations.items():
            record: dict[str, Any] = {"conversation_id": name, "messages": conversation.messages}
            if conversation.outcome:
                record["outcome"] = conversation.outcome
            file.write(json.dumps(record) + "\n")
    return len(conversations)


def _rows(path: Path, mapping: CsvMapping) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows that are not blank, by Baton's names, with their last line's number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=_delimiter(file), strict=True)
            places = _places(path, next(reader, []), mapping)
            for values in reader:
                if any(value.strip() for value in values):
                    row = {n: values[i] if i < len(values) else "" for n, i in places.items()}
                    yield reader.line_num, row
    except FileNotFoundError:
        raise StreamError(f"{path}: there is no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise StreamError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise StreamError(f"{path}, line {reader.line_num}: is no CSV ({error})") from None


def _delimiter(file: IO[str]) -> str:
    """The sign that stands most often in the row of names: comma, semicolon or tab."""
    names = file.readline()
    file.seek(0)
    return max(",;\t", key=names.count)


def _places(path: Path, names: list[str], mapping: CsvMapping) -> dict[str, int]:
    """The place of each field that the file has. Raises StreamError."""
    by_name = {name.strip().lower(): place for place, name in reversed(list(enumerate(names)))}
    places, missing = {}, []
    for name in FIELDS:
        column = mapping.columns.get(name, name)
        if column.lower() in by_name:
            places[name] = by_name[column.lower()]
        elif name in REQUIRED or name in mapping.columns:
            missing.append(f"{column!r} for {name}")
    if missing:
        there = ", ".join(names) or "none"
        hint = "name them with --map field=Column"
        raise StreamError(f"{path}: no column {', '.join(missing)}; it has {there}; {hint}")
    return places


def _add(
    conversations: dict[str, _Conversation], line: int, row: dict[str, str], mapping: CsvMapping
) -> None:
    """Add a row's message. Raises ValueError."""
    name = row["conversation_id"].strip()
    if not name:
        raise ValueError("it names no conversation")
    word = row["author"].strip().lower()
    author = mapping.authors.get(word) or AUTHORS.get(word.replace(" ", "_").replace("-", "_"))
    if author is None:
        raise ValueError(f"who is {row['author']!r}? say so with --author {row['author']}=user")
    message: dict[str, Any] = {"id": row.get("id", "").strip() or f"r{line}", "author": author}
    message["text"] = row["text"]
    if at := row.get("at", "").strip():
        message["at"] = _seconds(at)
    if language := row.get("language", "").strip():
        message["language"] = language
    marks = {
        target: _is_marked(row, column)
        for column, target in (
            ("first_needed", "first_needed_message_id"),
            ("escalated", "escalating_message_id"),
        )
    }
    conversation = conversations.setdefault(name, _Conversation())
    earlier = conversation.lines.get(message["id"])
    if earlier is not None:
        raise ValueError(f"message {message['id']!r} stands on line {earlier}, too")
    _note_verdict(conversation, line, row)
    conversation.lines[message["id"]] = line
    conversation.messages.append(message)
    for target in (target for target, is_marked in marks.items() if is_marked):
        conversation.outcome.setdefault(target, message["id"])


def _note_verdict(conversation: _Conversation, line: int, row: dict[str, str]) -> None:
    verdict = row.get("verdict", "").strip().lower().replace(" ", "_").replace("-", "_")
    if not verdict:
        return
    allowed = [name for name in VERDICTS if name != "labels"]
    if verdict not in allowed:
        raise ValueError(f"verdict {row['verdict']!r} is none of {', '.join(allowed)}")
    before = conversation.outcome.get("verdict", verdict)
    if before != verdict:
        raise ValueError(f"verdict {verdict}, and {before} on line {conversation.verdict_line}")
    conversation.outcome["verdict"], conversation.verdict_line = verdict, line


def _is_marked(row: dict[str, str], name: str) -> bool:
    value = row.get(name, "").strip().lower()
    if value not in _TRUE + _FALSE:
        raise ValueError(f"{name} is {row[name]!r}; mark it with 1, or leave it empty")
    return value in _TRUE


def _seconds(text: str) -> float:
    """Seconds since the epoch, from such a number or ISO 8601; without a zone it is UTC."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"at is {text!r}; write it as 2026-11-28T09:30:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
