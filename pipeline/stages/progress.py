"""What people see while a build runs: rows, rate and time left, on stderr, and nothing when that is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


class _Pace(ProgressColumn):
    """Rate and time left by the rows done in this run: reused ones cost nothing and would flatter both."""

    def render(self, task: Task) -> Text:
        rate = task.fields["n_fresh"] / task.elapsed if task.elapsed else 0.0
        if not rate or task.total is None:
            return Text("– rows/s")
        left = timedelta(seconds=round((task.total - task.completed) / rate))
        return Text(f"{rate:,.{0 if rate >= 10 else 2}f} rows/s, {left} left")


@contextmanager
def progress(label: str, n_rows: int) -> Iterator[Callable[[int, bool], None]]:
    """A function to call with (rows finished, whether they were reused)."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Pace())
    n_fresh = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=n_rows, n_fresh=n_fresh)

        def advance(rows: int, is_reused: bool) -> None:
            nonlocal n_fresh
            n_fresh += 0 if is_reused else rows
            bar.update(task, advance=rows, n_fresh=n_fresh)

        yield advance


def note(message: str) -> None:
    """One line for people."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)
