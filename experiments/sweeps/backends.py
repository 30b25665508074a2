"""Backends of a sweep: joblib processes on this machine, or a Ray cluster.

Both run the same function on the same bytes, so both give the same figures, to the bit. A trial
that fails says so, and holds up no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from joblib import Parallel, delayed

from experiments.build_info import build_id
from experiments.datasets.ledger_export import History
from experiments.sweeps import trials

EXTRA = "the Ray engine needs the extra `ray`: pip install 'baton[ray]', or use --engine local"
RAY_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Ray reports to its makers unless told not to; the other keeps it from warning about GPUs."""


class BackendUnavailable(RuntimeError):
    """There is nothing to run trials on; the message says how to get it."""


class Backend(Protocol):
    """Runs trials of one history; results come as they are ready, in any order."""

    @property
    def name(self) -> str: ...

    def run(
        self, history_file: Path, history: History, recipes: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """A result for every recipe, or `{recipe, failed}` with the reason."""
        ...


def run_trial(history_file: Path | bytes, history: History, recipe: str) -> dict[str, Any]:
    """A trial's figures, or why it has none."""
    try:
        return trials.play(history_file, history, recipe)
    except Exception as error:
        return {"recipe": recipe, "failed": f"{type(error).__name__}: {error}"}


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """Processes of this machine, by joblib; one worker is this process itself."""

    workers: int
    name: str = "local"

    def run(
        self, history_file: Path, history: History, recipes: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        work = (delayed(run_trial)(history_file, history, recipe) for recipe in recipes)
        with Parallel(n_jobs=self.workers, return_as="generator_unordered") as parallel:
            yield from parallel(work)


@dataclass(frozen=True, slots=True)
class RayBackend:
    """A Ray cluster at an address, or one of this machine alone that ends with the sweep.

    The history travels once to each node. Every node needs the same Baton: what another build
    played is refused, since its figures might differ.
    """

    address: str | None = None
    name: str = "ray"

    def run(
        self, history_file: Path, history: History, recipes: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        ray = _ray()
        try:
            ray.init(
                address=self.address,
                logging_level="ERROR",
                log_to_driver=False,
                **({} if self.address else {"include_dashboard": False}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = self.address or "this machine"
            raise BackendUnavailable(f"no Ray cluster at {where}: {error}") from error
        try:
            play = ray.remote(num_cpus=1, max_retries=3)(_run_on_node)
            stored = ray.put(history_file.read_bytes())
            waiting = [play.remote(stored, history, recipe) for recipe in recipes]
            names = dict(zip(waiting, recipes, strict=True))
            while waiting:
                ready, waiting = ray.wait(waiting)
                for task in ready:
                    yield _collect(ray.get, task, names[task])
        finally:
            ray.shutdown()


def _run_on_node(history_file: bytes, history: History, recipe: str) -> dict[str, Any]:
    """A trial on a node of the cluster, and on which."""
    import ray

    return run_trial(history_file, history, recipe) | {
        "node": ray.get_runtime_context().get_node_id()
    }


def _collect(get: Callable[[Any], dict[str, Any]], task: Any, recipe: str) -> dict[str, Any]:
    try:
        result = get(task)
    except Exception as error:  # a node that died too often, or lacks Baton: Ray has many
        return {"recipe": recipe, "failed": f"{type(error).__name__}: {error}"}
    if result.get("build", build_id()) != build_id():
        problem = f"a node runs build {result['build']}, this is {build_id()}"
        return {"recipe": recipe, "failed": f"{problem}: install the same Baton on every node"}
    return result


def _ray() -> Any:
    os.environ.update(RAY_QUIET)
    try:
        import ray
    except ImportError as error:
        raise BackendUnavailable(EXTRA) from error
    return ray


def get_backend(name: str, *, workers: int | None = None, address: str | None = None) -> Backend:
    """The engine of a name. EngineAway where Ray is asked for and is not there."""
    if name == "local":
        return LocalBackend(workers or os.cpu_count() or 1)
    if name != "ray":
        raise BackendUnavailable(f"there is no engine {name!r}; use local or ray")
    _ray()
    return RayBackend(address)
