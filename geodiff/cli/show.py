"""Tables and progress bars. Tables go to stdout, progress to stderr, so that a pipe gets the tables alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table

from geodiff.schema import printable


def console() -> Console:
    """The console for results; brackets in paths are brackets."""
    return Console(soft_wrap=False, highlight=False, markup=False)


def tell(line: str) -> None:
    """Say on standard error what the work has come to; standard output is for results."""
    typer.echo(line, err=True)


def print_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Print (what, value) as a table without frame; long values wrap, paths are kept whole."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in pairs:
        table.add_row(printable(what), printable(value))
    _print(table)


def print_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: on a pipe as wide as it needs, on a terminal the last column folds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(header, start=1):
        table.add_column(title, no_wrap=number < len(header), overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    _print(table)


def _print(table: Table) -> None:
    out = console()
    if not out.is_terminal:  # a pipe has no width: nothing is cut or folded there
        out.width = Measurement.get(out, out.options.update(max_width=100_000), table).maximum
    out.print(table)


class StageBars:
    """One bar per stage, as a ``tasks.job.Progress`` callback; a total that is not known yet is None."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        task = self._tasks.get(stage)
        if task is None:
            task = self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(task, completed=done, total=total)


@contextmanager
def stage_bars() -> Iterator[StageBars]:
    """Bars on stderr while the block runs."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield StageBars(progress)
