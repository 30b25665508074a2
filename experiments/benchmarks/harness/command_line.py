"""Command-line interface of benchmarks: a command is a function from its options to its result.

    @benchmark(app, "model", "the model alone", "python -m experiments.benchmarks model")
    def model(run: Run, rounds: Rounds = None) -> BenchmarkResult:

becomes a command with `--quick` and `--json`, a progress bar, a folder that is gone afterwards,
and a table of the rows. `Rounds`, `Seconds` and `Stores` are options that several have.
"""

from __future__ import annotations

import inspect
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.benchmarks.harness.load_plan import STORES, LoadPlan
from experiments.benchmarks.harness.result_table import Progress as OnProgress
from experiments.benchmarks.harness.result_table import table

Quick = Annotated[bool, typer.Option("--quick", help="A short run, which tells that it works.")]
Json = Annotated[bool, typer.Option("--json", help="Print plain JSON on standard output.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds, of which medians are shown.", min=1)]
Seconds = Annotated[float, typer.Option(help="Length of a turn.", min=0.1, max=60)]
Stores = Annotated[list[str] | None, typer.Option(help="sqlite, postgresql [default: both]")]
Workers = Annotated[int, typer.Option(help="Processes.", min=1, max=64)]

_console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a benchmark: its folder, its progress bar, and whether it shall be quick."""

    folder: Path
    on_progress: OnProgress
    quick: bool

    def rounds(self, asked: int | None, usual: int = 5) -> int:
        return asked or (1 if self.quick else usual)

    def plan(
        self, rounds: int | None, seconds: float, names: Sequence[str] | None, usual: int = 5
    ) -> LoadPlan:
        """So many rounds of so long turns on the named stores; few and short if quick."""
        length = min(seconds, 1.0) if self.quick else seconds
        return LoadPlan(self.rounds(rounds, usual), length, stores(names))


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Rows and what of them to show, and sentences below. `all` is printed as JSON, if not rows."""

    rows: Sequence[Mapping[str, Any]]
    columns: Mapping[str, str]
    notes: Sequence[str] = ()
    all: Sequence[Mapping[str, Any]] | None = None


def benchmark(
    app: typer.Typer, name: str, title: str, example: str, *, hidden: bool = False
) -> Callable[[Callable[..., BenchmarkResult]], None]:
    """Make a command NAME of `app` of a function that takes a Run and its own options."""

    def register(measure: Callable[..., BenchmarkResult]) -> None:
        def command(*, quick: bool, json_: bool, **own: Any) -> None:
            with _running(name) as (folder, on_progress):
                result = measure(Run(folder, on_progress, quick), **own)
            _print(title, result, as_json=json_)

        _, *own = inspect.signature(measure, eval_str=True).parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(option, keyword, default=False, annotation=kind)
            for option, kind in (("quick", Quick), ("json_", Json))
        ]
        options = [*(option.replace(kind=keyword) for option in own), *shared]
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {option.name: option.annotation for option in options}
        command.__doc__ = measure.__doc__
        app.command(name, epilog=f"Example: {example}", hidden=hidden)(command)

    return register


def stores(asked: Sequence[str] | None) -> tuple[str, ...]:
    """The stores that were named, or both."""
    if unknown := sorted(set(asked or ()) - set(STORES)):
        raise typer.BadParameter(f"there is no store {unknown[0]!r}; use {' or '.join(STORES)}")
    return tuple(asked or STORES)


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM ends a benchmark as Ctrl-C does: with the processes that it started."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Errors that a user can mend are one line, not a traceback; the exit status is 1."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        text = f"[red]benchmark:[/red] {escape(str(error))}"
        _console.print(text, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


@contextmanager
def _running(name: str) -> Iterator[tuple[Path, OnProgress]]:
    """A folder that is gone afterwards, and a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        _exit_on_error(),
        _interrupt_on_sigterm(),
        tempfile.TemporaryDirectory(prefix="baton-bench-", ignore_cleanup_errors=True) as folder,
        Progress(*columns, TimeElapsedColumn(), console=_console, transient=True) as progress,
    ):
        task = progress.add_task(name, total=None)

        def on_progress(what: str, done: int, of: int) -> None:
            progress.update(task, description=f"{name}: {what}", completed=done, total=of)

        yield Path(folder), on_progress


def _print(title: str, result: BenchmarkResult, *, as_json: bool) -> None:
    if as_json:
        rows = result.rows if result.all is None else result.all
        sys.stdout.write(json.dumps(rows, indent=2, default=str) + "\n")
    else:
        width = None if _console.is_terminal else 200
        Console(width=width).print(table(title, result.rows, result.columns))
    for note in result.notes:
        _console.print(note, highlight=False, markup=False)
