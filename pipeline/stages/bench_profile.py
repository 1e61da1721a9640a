"""Where the time of a call goes: what a function takes counts for the task it is part of, or else for who called it.

`cProfile` makes small Python functions look dearer than they are beside compiled ones: these are shares to look for
what is worth a change, not seconds. It sees one thread; what others do is waiting, and counts for the one that waits.
"""

import cProfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Function = tuple[str, int, str]  # file, line, name
OWN = Path(__file__).resolve().parents[2]
DEPTH_MAX = 100  # of calls from the task down
OTHER = "the rest"


def profiled(call: Callable[[], object], tasks: Mapping[str, str]) -> dict[str, float]:
    """Share of the time by task, the largest first; `tasks` are by module or by module.function."""
    profile = cProfile.Profile()
    profile.runcall(call)
    profile.create_stats()
    seconds = by_task(profile.stats, tasks)  # type: ignore[attr-defined]
    total = sum(seconds.values())
    return {task: round(seconds[task] / total, 4) for task in sorted(seconds, key=lambda each: -seconds[each])}


def by_task(stats: Mapping[Function, tuple[Any, ...]], tasks: Mapping[str, str]) -> dict[str, float]:
    """Own time of every function, handed from callee to caller until one belongs to a task.

    Of several callers each gets as much as was measured below calls from there.
    """
    seconds: dict[str, float] = {}
    waiting = {function: one[2] for function, one in stats.items()}
    for _ in range(DEPTH_MAX):
        handed: dict[Function, float] = {}
        for function, own_s in waiting.items():
            callers = {caller: times[3] for caller, times in stats[function][4].items() if caller != function}
            total = sum(callers.values())
            if (task := _task(function, tasks)) is not None or total <= 0:
                seconds[task or OTHER] = seconds.get(task or OTHER, 0.0) + own_s
                continue
            for caller, below_s in callers.items():
                handed[caller] = handed.get(caller, 0.0) + own_s * below_s / total
        waiting = handed
    seconds[OTHER] = seconds.get(OTHER, 0.0) + sum(waiting.values())  # what calls itself in a ring
    return seconds


def _task(function: Function, tasks: Mapping[str, str]) -> str | None:
    path = Path(function[0])
    if not path.is_absolute() or not path.is_relative_to(OWN):
        return None
    module = ".".join(path.relative_to(OWN).with_suffix("").parts)
    return tasks.get(f"{module}.{function[2]}") or tasks.get(module)
