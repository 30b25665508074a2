"""Parquet reader: one conversation a row, or one message a row.

Columns are the fields of Baton's own format. Where each row is a message (columns
`conversation_id`, `author`, `text`, and optionally `id`, `label` and the others), rows of one
conversation stand together, and a `label` is what was found true of its message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.datasets.episode import Record, StreamError, open_file

ROWS_AT_ONCE = 1024
_MAGIC = b"PAR1"
_NESTED = ("messages", "labels", "outcome", "bot", "attributes", "turns")


def is_parquet(path: Path) -> bool:
    """Whether a file is one, by its first bytes."""
    with open_file(path) as file:
        return file.read(4) == _MAGIC


def records(path: Path) -> Iterator[tuple[int, Record]]:
    """The conversations of a file, each with the number of its (first) row, from 1.

    Fields that are null are left out; nested ones may also be JSON in text. Raises StreamError.
    """
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            rows = _rows(file)
            if "conversation_id" in names and "text" in names and "messages" not in names:
                yield from _group_messages(rows)
            else:
                yield from rows
    except pyarrow.ArrowException as error:
        raise StreamError(
            f"{path}: is not a whole Parquet file ({error}); write it again"
        ) from None


def _rows(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for batch in file.iter_batches(ROWS_AT_ONCE):
        for row in batch.to_pylist():
            number += 1
            yield (
                number,
                {name: _parse_nested(name, value) for name, value in _without_nulls(row).items()},
            )


def _parse_nested(name: str, value: Any) -> Any:
    if name in _NESTED and isinstance(value, str):
        try:
            value = json.loads(value)
        except (RecursionError, ValueError):
            return value
    return _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    """Without what is null: a table has every column in every row."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _group_messages(rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, Record]]:
    """Messages put together to conversations."""
    for name, group in groupby(rows, lambda row: row[1].get("conversation_id")):
        first, messages, labels = 0, [], []
        for place, (number, row) in enumerate(group, 1):
            first = first or number
            message = {k: v for k, v in row.items() if k not in ("conversation_id", "label")}
            message.setdefault("id", str(place))
            messages.append(message)
            if "label" in row:
                labels.append({"message_id": message["id"], "label": row["label"]})
        head = {} if name is None else {"conversation_id": name}
        yield first, head | {"messages": messages} | ({"labels": labels} if labels else {})
