"""Interrupt code of ours at one line after another, as a signal could at any of them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupted_at(count: int, files: Collection[str | None]) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt once, where this thread comes to its ``count``-th line in the files.

    Yields a list with how many lines are left; above 0 in the end means that there are fewer. Whoever traced before,
    as coverage does, goes on with it: the interpreter itself drops a trace function that raises.
    """
    left = [count]

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield left
    finally:
        sys.settrace(before)
