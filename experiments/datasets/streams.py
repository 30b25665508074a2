"""Data set streams: recorded conversations of every format as `Episode`s, in file order.

Four recorded data sets and Baton's own export read as the same `Episode`s, so serving, evaluation
and every experiment play them through one loop. Each format is described at its reader, in
`recorded` and `exported`; what stands in for "a person was needed" is the `target`. Text comes as
it stands. The recordings have no times: each conversation begins at the same made-up instant, and
has a turn every 30 seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from experiments.datasets import episode as lines
from experiments.datasets import parquet
from experiments.datasets.baton_format import episode_line, read_conversation
from experiments.datasets.episode import Episode, FieldError, Record, StreamError, open_file
from experiments.datasets.public_formats import dbdc, mhch, uss

__all__ = [
    "FORMATS",
    "SETS",
    "Episode",
    "StreamError",
    "check_lines",
    "count_conversations",
    "data_folder",
    "episode_line",
    "read",
    "recognise",
]

RECOGNISED_FROM = 100
"""Conversations looked at to recognise a format: the first ones may have no label at all."""

SETS: Mapping[str, tuple[str, ...]] = {
    "uss_sgd": ("uss_sgd.jsonl",),
    "uss_redial": ("uss_redial.jsonl",),
    "dbdc3": ("dbdc3_revised_en_dev.jsonl",),
    "mhch_clothing": ("dami_clothing_eval.jsonl", "dami_clothing_test.jsonl"),
}
"""The four data sets, as the files of the data folder to play one after another."""


def read(
    path: Path | str,
    format: str | None = None,  # noqa: A002 - named as the command's option is
    target: str | None = None,
) -> Iterator[Episode]:
    """The conversations of a JSON Lines or Parquet file, in file order, one at a time.

    `format` (uss, dbdc, mhch or baton) is recognised from the fields unless named; `target` is
    one of that format's, the first by default (see `FORMATS`). Raises StreamError at once for a
    missing or empty file, an unknown format or target, and at the line for a bad conversation.
    """
    return _require_readable(Path(path), check_lines(path, format, target))


def check_lines(
    path: Path | str,
    format: str | None = None,  # noqa: A002 - named as the command's option is
    target: str | None = None,
) -> Iterator[tuple[int, Episode | str]]:
    """Episodes with line (or row) numbers; an error message in place of a bad one.

    StreamError for what is wrong with the whole file; lines after one that cannot be read as JSON
    are not looked at.
    """
    path = Path(path)
    name = format or recognise(path)
    if name not in FORMATS:
        raise StreamError(f"{path}: format {name!r} is unknown; use one of {', '.join(FORMATS)}")
    if next(records(path), None) is None:
        raise StreamError(f"{path}: holds no conversation; write one JSON object per line")
    reader, targets = FORMATS[name]
    aim = target or targets[0]
    if aim not in targets:
        names = ", ".join(targets)
        raise StreamError(f"{path}: target {aim!r} is unknown to format {name}; use {names}")
    return _parse_lines(path, name, reader, aim)


def recognise(path: Path | str) -> str:
    """The format of a file by its fields; StreamError where none fits."""
    path = Path(path)
    fields_so_far: dict[str, None] = {}
    for _, record in islice(records(path), RECOGNISED_FROM):
        turns = record.get("turns")
        within = [t for t in turns if isinstance(t, dict)] if isinstance(turns, list) else []
        fields = [*record, *(f"turns[].{name}" for turn in within for name in turn)]
        for name, sign in _SIGNS:
            if sign in fields:
                return name
        fields_so_far.update(dict.fromkeys(fields))
    if next(records(path), None) is None:
        raise StreamError(f"{path}: holds no conversation; write one JSON object per line")
    raise StreamError(
        f"{path}: no format has the fields {', '.join(list(fields_so_far)[:12]) or '(none)'}; "
        f"expected one of {', '.join(f'{sign} ({name})' for name, sign in _SIGNS)}; "
        "or name it with --format"
    )


def count_conversations(path: Path | str) -> int:
    """Number of conversations in a file (lines that are not blank), without parsing it."""
    if parquet.is_parquet(Path(path)):
        return sum(1 for _ in records(Path(path)))
    with open_file(Path(path)) as file:
        return sum(1 for line in file if line.strip())


def data_folder(environ: Mapping[str, str]) -> Path:
    """Where the recorded data are: BATON_DATA, or `shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(environ.get("BATON_DATA") or beside)


def records(path: Path) -> Iterator[tuple[int, Record]]:
    """The objects of a file with their line or row numbers."""
    return parquet.records(path) if parquet.is_parquet(path) else lines.records(path)


def _require_readable(
    path: Path, checked: Iterator[tuple[int, Episode | str]]
) -> Iterator[Episode]:
    for _, episode in checked:
        if isinstance(episode, str):
            raise StreamError(f"{path}, {episode}")
        yield episode


def _parse_lines(
    path: Path, name: str, reader: _Reader, target: str
) -> Iterator[tuple[int, Episode | str]]:
    line_by_id: dict[str, int] = {}
    for number, record in records(path):
        try:
            episode = reader(record, target)
        except FieldError as error:
            yield number, f"line {number}, read as {name}: {error}"
            continue
        if episode.id in line_by_id:
            problem = f"conversation {episode.id!r} was already on line {line_by_id[episode.id]}"
            yield number, f"line {number}: {problem}; give each conversation its own id"
            continue
        line_by_id[episode.id] = number
        yield number, episode


_Reader = Callable[[Record, str], Episode]

FORMATS: Mapping[str, tuple[_Reader, tuple[str, ...]]] = {
    "uss": (uss, ("mean", "strict")),
    "dbdc": (dbdc, ("share", "majority")),
    "mhch": (mhch, ("label",)),
    "baton": (read_conversation, ("outcome",)),
}
"""Each format's reader and its targets, the first of which is the default."""

_SIGNS = (
    ("baton", "messages"),
    ("mhch", "turns[].token_ids"),
    ("dbdc", "turns[].breakdown_votes"),
    ("uss", "turns[].satisfaction"),
    ("uss", "overall_satisfaction"),
)
