"""Checkpoints: a model state as plain arrays and JSON, with a digest; no code, no pickle.

The digest is of what was learned (recipe, model, calibrator) in a canonical form, so two
processes hold the same model exactly when their digests are equal, whatever the bytes of their
files. It is checked before a loaded state is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np

from learning.ledger.model_state import ModelState
from learning.models.recipes import UnknownRecipe

FORMAT = 1
BYTES_MAX = 256 * 2**20
_PARTS = ("model", "calibrator", "window", "router", "routed", "advisers", "advice_trials")
_LEARNED = ("model", "calibrator", "router", "advisers")
_OPTIONAL_PARTS = ("router", "routed", "advisers", "advice_trials")
"""Parts that checkpoints of earlier builds lack: they load as having learned nothing."""


class CheckpointError(ValueError):
    """The bytes are not a checkpoint that this build can restore."""


class UnknownRecipeError(CheckpointError):
    """A checkpoint of a recipe that this build does not have: another build wrote it."""


def dump(model_state: ModelState) -> bytes:
    """Serialise a model state: an `.npz` of arrays with one JSON header."""
    arrays: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {
        "format": FORMAT,
        "recipe": model_state.recipe,
        "position": model_state.position,
        "digest": digest(model_state),
        "meta": {},
    }
    for part in _PARTS:
        meta, part_arrays = getattr(model_state, part).dump()
        header["meta"][part] = meta
        arrays |= {f"{part}.{name}": array for name, array in part_arrays.items()}
    arrays["header"] = np.frombuffer(_json(header), dtype=np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def load(data: bytes) -> ModelState:
    """Restore a model state from `dump`'s bytes, its digest verified.

    Raises CheckpointError for bytes that are cut, altered or too large, UnknownRecipeError for
    those of a recipe that this build does not have. The policy is the ledger's to tell, and the
    version and switch the caller's.
    """
    header, arrays = _read(data)
    recipe = str(header.get("recipe"))
    try:
        model_state = ModelState(recipe=recipe)
    except UnknownRecipe as error:
        raise UnknownRecipeError(f"{error}; rebuild the version with `baton rebuild`") from error
    try:
        model_state.position = header["position"].__index__()
        if model_state.position < 0:
            raise ValueError(f"position {model_state.position} is before the ledger")
        for part in _PARTS:
            if part in _OPTIONAL_PARTS and part not in header["meta"]:
                continue
            part_arrays = {
                name.removeprefix(part + "."): array
                for name, array in arrays.items()
                if name.startswith(part + ".")
            }
            getattr(model_state, part).load(header["meta"][part], part_arrays)
    except Exception as error:  # whatever a part makes of a state that is not its own
        raise CheckpointError(f"checkpoint does not fit recipe {recipe}: {error}") from error
    if digest(model_state) != header.get("digest"):
        raise CheckpointError(
            "checkpoint's digest does not match its content; use an older version"
        )
    return model_state


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > BYTES_MAX:
            raise CheckpointError(f"checkpoint unpacks to {size} bytes; the limit is {BYTES_MAX}")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
    except CheckpointError:
        raise
    except Exception as error:  # zip, npy and JSON each have error classes of their own
        raise CheckpointError(f"not a whole checkpoint: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError("checkpoint is of another format; this build reads format 1")
    return header, arrays


def digest(model_state: ModelState) -> str:
    """SHA-256, in hex, of the recipe's name and everything that was learned.

    A router or advisers that have learned nothing are left out, as earlier builds' checkpoints have
    none.
    """
    sha256 = hashlib.sha256(model_state.recipe.encode())
    for part in _LEARNED:
        if part == "router" and not model_state.router.model.lessons:
            continue
        if part == "advisers" and not model_state.advisers.names:
            continue
        meta, arrays = getattr(model_state, part).dump()
        sha256.update(_json({part: meta}))
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            sha256.update(f"{name} {array.dtype.str} {array.shape}".encode())
            sha256.update(array.data.cast("B") if array.size else b"")
    return sha256.hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
