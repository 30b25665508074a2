"""Recall and false alarms of the signals on a folder of labelled texts, by language and style.

`python -m tests.learning.text.measure FOLDER [--texts]` reads `requests_*.jsonl`, `mail.jsonl`,
`anger.jsonl` and `hidden.jsonl`. Only counts are printed unless texts are asked for, so that a
half that is kept apart stays unseen.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning.conversation.state import EMPTY as NEW_CONVERSATION
from learning.conversation.state import Message, step
from learning.text.signals import Signals

ANGRY = 0.4
"""From this frustration on a text counts as angry."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text: the set and the segment it counts in, and whether its signal is meant."""

    dataset: str
    segment: str
    expected: bool
    shown: bool
    text: str


def signals_of(row: dict[str, Any], language: str | None) -> Signals:
    """The signals of a text as the fold reads it."""
    extra = {"format": row["format"]} if row.get("format") else {}
    return step(NEW_CONVERSATION, Message("m", "user", row["text"], 0.0, language, **extra)).signals


def examples(folder: Path, *, declared: bool = False) -> Iterator[Example]:
    """Every labelled text of a folder with what is shown of it."""
    for file in sorted(folder.glob("*.jsonl")):
        dataset = file.stem.split("_")[0]
        for line in file.read_text("utf-8").splitlines():
            row = json.loads(line)
            language = row.get("lang") if declared else None
            if dataset in ("requests", "mail", "hidden"):
                segment = " ".join(
                    filter(None, (row.get("lang"), row.get("style"), row.get("format")))
                )
                shown = signals_of(row, language).request is not None
                yield Example(dataset, segment, row["request"], shown, row["text"])
            elif dataset == "anger":
                shown = signals_of(row, language).frustration >= ANGRY
                yield Example(dataset, row["lang"], row["angry"], shown, row["text"])


def table(rows: list[Example], *, texts: bool) -> Iterator[str]:
    """One line a segment: right over all; with `texts`, the wrong ones under it."""
    segments: dict[tuple[str, str, bool], list[Example]] = defaultdict(list)
    for row in rows:
        segments[row.dataset, row.segment, row.expected].append(row)
    for (dataset, segment, expected), members in sorted(segments.items()):
        wrong = [row for row in members if row.shown is not expected]
        name = "missed" if expected else "false"
        if wrong:
            yield f"{dataset:9} {segment:16} {name:7} {len(wrong):3} of {len(members):3}"
            if texts:
                yield from (f"    {row.text!r}" for row in wrong)


def totals(rows: list[Example]) -> Iterator[str]:
    """Recall and false alarms by set and style."""
    sums: dict[tuple[str, str, bool], list[bool]] = defaultdict(list)
    for row in rows:
        kind = row.segment.split(" ")[-1] if row.dataset != "anger" else ""
        if row.dataset == "requests":
            code = row.segment.split(" ")[0]
            kind = ("15 " if code in FIFTEEN else "19 ") + kind
        sums[row.dataset, kind, row.expected].append(row.shown is row.expected)
    for (dataset, kind, expected), right in sorted(sums.items()):
        name = "recall" if expected else "quiet"
        yield f"{dataset:9} {kind:14} {name:7} {sum(right) / len(right):.3f} of {len(right)}"


FIFTEEN = frozenset(
    ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "zh"]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--declared", action="store_true", help="say each text's language")
    parser.add_argument("--only", default="", help="sets and segments that begin so")
    options = parser.parse_args()
    rows = [
        row
        for row in examples(options.folder, declared=options.declared)
        if f"{row.dataset} {row.segment}".startswith(options.only)
    ]
    for line in table(rows, texts=options.texts):
        print(line)
    for line in totals(rows):
        print(line)


if __name__ == "__main__":
    main()
