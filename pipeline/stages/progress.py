"""What people see while a build runs: rows, rate and time left, on stderr, and nothing when that is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "– rows/s")


@contextmanager
def progress(label: str, n_rows: int) -> Iterator[Callable[[int, bool], None]]:
    """A function to call with (rows finished, whether they were reused)."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=n_rows)
        yield lambda rows, is_reused: bar.advance(task, rows)


def note(message: str) -> None:
    """One line for people."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)
