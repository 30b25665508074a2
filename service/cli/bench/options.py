"""`baton bench`: what all benches share. A bench is a function from its options to what it found.

    @bench("model", "the model alone", "baton bench model --data simulated")
    def model(run: Run, rounds: Rounds = None) -> Found:

becomes a command with `--quick` and `--json`, a progress bar, a folder that is gone afterwards,
and a table of the rows. `Rounds`, `Seconds` and `Stores` are options that several have.
"""

from __future__ import annotations

import inspect
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.cli.main import Json, app, console, handle_errors, print_json

if TYPE_CHECKING:
    from experiments.benchmarks.harness.compared_systems import LoadPlan

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure speed and scale, beside what people would use instead."
)
app.add_typer(bench_app, name="bench")

Quick = Annotated[bool, typer.Option("--quick", help="A short run: tells that it works.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds, of which medians are shown.", min=1)]
Seconds = Annotated[float, typer.Option(help="Length of a turn.", min=0.1, max=60)]
Stores = Annotated[list[str] | None, typer.Option(help="sqlite, postgresql [default: both]")]
STORES = ("sqlite", "postgresql")
Shown = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a bench: its folder, its progress bar, and whether it shall be quick."""

    folder: Path
    shown: Shown
    quick: bool

    def rounds(self, given: int | None, usual: int = 5) -> int:
        return given or (1 if self.quick else usual)

    def plan(
        self, rounds: int | None, seconds: float, names: Sequence[str] | None, usual: int = 5
    ) -> LoadPlan:
        """So many rounds of so long turns on the named stores; few and short if quick."""
        from experiments.benchmarks.harness.compared_systems import LoadPlan

        length = min(seconds, 1.0) if self.quick else seconds
        return LoadPlan(self.rounds(rounds, usual), length, stores(names))


@dataclass(frozen=True, slots=True)
class Found:
    """Rows and what of them to show, and sentences below. `all` is printed as JSON, if not rows."""

    rows: Sequence[Mapping[str, Any]]
    columns: Mapping[str, str]
    notes: Sequence[str] = ()
    all: Sequence[Mapping[str, Any]] | None = None


def bench(name: str, title: str, example: str) -> Callable[[Callable[..., Found]], None]:
    """Make a command `baton bench NAME` of a function that takes a Run and its own options."""

    def made(measure: Callable[..., Found]) -> None:
        def command(*, quick: bool, json_: bool, **own: Any) -> None:
            with _measuring(name) as (folder, shown):
                found = measure(Run(folder, shown, quick), **own)
            _print(title, found, as_json=json_)

        _, *own = inspect.signature(measure, eval_str=True).parameters.values()
        given = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(option, given, default=False, annotation=kind)
            for option, kind in (("quick", Quick), ("json_", Json))
        ]
        options = [*(one.replace(kind=given) for one in own), *shared]
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in options}
        command.__doc__ = measure.__doc__
        bench_app.command(name, epilog=f"Example: {example}")(command)

    return made


def stores(given: Sequence[str] | None) -> tuple[str, ...]:
    """The stores that were named, or both."""
    if unknown := sorted(set(given or ()) - set(STORES)):
        raise typer.BadParameter(f"there is no store {unknown[0]!r}; use {' or '.join(STORES)}")
    return tuple(given or STORES)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a bench as Ctrl-C does: with the processes that it started."""

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
def _measuring(name: str) -> Iterator[tuple[Path, Shown]]:
    """A folder that is gone afterwards, and a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        handle_errors(),
        _terminable(),
        tempfile.TemporaryDirectory(prefix="baton-bench-", ignore_cleanup_errors=True) as folder,
        Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress,
    ):
        task = progress.add_task(name, total=None)

        def shown(what: str, done: int, of: int) -> None:
            progress.update(task, description=f"{name}: {what}", completed=done, total=of)

        yield Path(folder), shown


def _print(title: str, found: Found, *, as_json: bool) -> None:
    from experiments.benchmarks.harness.result_table import table

    if as_json:
        print_json(found.rows if found.all is None else found.all)
    else:
        shown = table(title, found.rows, found.columns)
        Console(width=None if console.is_terminal else 200).print(shown)
    for note in found.notes:
        console.print(note, highlight=False, markup=False)
