"""A checkpoint is the standing, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from learning.conversation.state import fold
from learning.ledger import checkpoint
from learning.ledger.checkpoint import CheckpointError, digest, dump, load
from learning.ledger.model_state import Entry, ModelState, replay_entries
from learning.models.recipes import RECIPES
from tests.ledgers import CONVERSATIONS, RECIPE, bodies, learned, numbered, outcome, transcript

ROOT = Path(__file__).parents[3]
LEDGER = numbered(
    ("outcome", outcome(name, verdict=verdict, since=1 if verdict == "missed" else None))
    for name in CONVERSATIONS
    for verdict in ("missed", "fine")
)
few = settings(max_examples=25)


def same(one: ModelState, other: ModelState) -> None:
    assert (one.recipe, one.position) == (other.recipe, other.position)
    assert digest(one) == digest(other)
    assert one.window.dump()[0] == other.window.dump()[0]
    for turns in CONVERSATIONS.values():
        state = fold(turn.message for turn in turns)
        assert one.score(state) == other.score(state)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_saved_comes_back_to_the_bit(recipe: str) -> None:
    for standing in (ModelState(recipe=recipe), learned(LEDGER, recipe=recipe)):
        same(load(dump(standing)), standing)


@few
@given(bodies().map(numbered), st.integers(0, 10), st.sampled_from(sorted(RECIPES)))
def test_saved_midway_and_gone_on_is_never_having_stopped(
    entries: list[Entry], cut: int, recipe: str
) -> None:
    resumed = load(dump(learned(entries[:cut], recipe=recipe)))
    replay_entries(resumed, entries[resumed.position :], transcript)
    same(resumed, learned(entries, recipe=recipe))


def test_saving_changes_nothing_and_a_digest_tells_every_lesson() -> None:
    seen = set()
    standing = ModelState(recipe=RECIPE)
    for entry in LEDGER:
        seen.add(digest(standing))
        dump(standing)
        replay_entries(standing, [entry], transcript)
    assert len(seen) == len(LEDGER)
    same(standing, learned(LEDGER))


SCRIPT = """
from tests.learning.ledger.test_checkpoint import LEDGER
from tests.ledgers import learned
from learning.ledger.checkpoint import digest, dump, load
from learning.models.recipes import RECIPES
for recipe in sorted(RECIPES):
    print(digest(load(dump(learned(LEDGER, recipe=recipe)))))
"""


@pytest.mark.parametrize("seed", ["4711"])
def test_another_process_under_another_hash_seed_holds_the_same_model(seed: str) -> None:
    environ = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environ, capture_output=True, check=True
    )
    assert found.stdout.decode().split() == [
        digest(learned(LEDGER, recipe=recipe)) for recipe in sorted(RECIPES)
    ]


WHOLE = dump(learned(LEDGER))


@few
@given(st.integers(0, len(WHOLE) - 1))
@example(0)
@example(len(WHOLE) - 1)
def test_a_checkpoint_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(CheckpointError):
        load(WHOLE[:length])


@settings(max_examples=150)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_an_altered_byte_is_refused_or_alters_nothing(place: int, change: int) -> None:
    altered = bytearray(WHOLE)
    altered[place] ^= change
    try:
        standing = load(bytes(altered))
    except CheckpointError:
        return
    same(standing, learned(LEDGER))


@few
@given(st.binary(max_size=300))
@example(b"PK\x03\x04")
@example(pickle.dumps({"model": 1}))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        load(data)


def packed(arrays: dict[str, Any], header: Any, **more: Any) -> bytes:
    out = io.BytesIO()
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    np.savez_compressed(out, header=np.frombuffer(written, np.uint8), **arrays, **more)
    return out.getvalue()


def unpacked() -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(io.BytesIO(WHOLE)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(arrays.pop("header").tobytes())


@pytest.mark.parametrize("name", ["format", "recipe", "position", "digest", "meta"])
@pytest.mark.parametrize("value", [..., None, [], {}, "no", -3])
def test_a_header_that_says_something_else_is_refused(name: str, value: Any) -> None:
    arrays, header = unpacked()
    assert digest(load(packed(arrays, header))) == digest(load(WHOLE))
    if value is ...:
        del header[name]
    else:
        header[name] = value
    with pytest.raises(CheckpointError):
        load(packed(arrays, header))


@pytest.mark.parametrize("header", [b"", b"[]", b"\xff", b"null", b"[" * 100_000])
def test_a_header_that_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(CheckpointError):
        load(packed(unpacked()[0], header))


def test_a_learned_number_that_was_changed_is_refused_by_the_digest() -> None:
    arrays, header = unpacked()
    learned_arrays = [name for name in arrays if name.startswith("model.")]
    assert learned_arrays
    for name in learned_arrays:
        changed = arrays | {name: arrays[name] + 1}
        with pytest.raises(CheckpointError):
            load(packed(changed, header))
    header["meta"]["calibrator"]["theta"][0] += 1e-12
    with pytest.raises(CheckpointError, match="digest"):
        load(packed(arrays, header))


def test_a_checkpoint_of_a_recipe_that_this_build_lacks_says_how_to_go_on() -> None:
    arrays, header = unpacked()
    with pytest.raises(CheckpointError, match="baton rebuild"):
        load(packed(arrays, header | {"recipe": "forest-9"}))


class Touch:
    """What a hostile checkpoint holds: unpickled, it would write a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    arrays, header = unpacked()
    written = tmp_path / "written"
    bomb = np.array([Touch(str(written))], dtype=object)
    for name in ("model.bomb", "header", next(iter(arrays))):
        parts = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)} | arrays
        out = io.BytesIO()
        np.savez_compressed(out, **(parts | {name: bomb}))
        with pytest.raises(CheckpointError):
            load(out.getvalue())
    with pytest.raises(CheckpointError):
        load(pickle.dumps(Touch(str(written))))
    assert not written.exists()


def test_what_would_unpack_beyond_the_limit_is_refused_before_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "BYTES_MAX", len(WHOLE))
    with pytest.raises(CheckpointError, match="limit"):
        load(WHOLE)
