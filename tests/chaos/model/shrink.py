"""The fewest steps of a history that still fails, as far as there is time to look for them (delta debugging, Zeller).

Parts of the steps are left out, halves first, then ever smaller ones; what still fails without one goes on without it.
A history is no function: what fails once may pass the next time, so that a part is kept whenever the rest passed.
What plays a history is given by the caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

__all__ = ["kinds_of", "shrink"]

Fails = Callable[[Sequence[int]], bool]


def shrink(steps: Sequence[int], fails: Fails, seconds: float, at_once: int = 2) -> list[int]:
    """Return some of ``steps``, in their order, with which ``fails`` was still true."""
    ends = time.monotonic() + seconds
    left = list(steps)
    size = max(1, len(left) // 2)
    with ThreadPoolExecutor(at_once) as pool:
        while left and time.monotonic() < ends:
            shorter = _first_that_fails(left, size, fails, ends, pool, at_once)
            if shorter is not None:
                left = shorter
                size = min(size, max(1, len(left) // 2))
            elif size == 1:
                break
            else:
                size //= 2
    return left


def _first_that_fails(
    steps: Sequence[int], size: int, fails: Fails, ends: float, pool: ThreadPoolExecutor, at_once: int
) -> list[int] | None:
    """Leave out each part of that size in turn, from the end; return what still fails, None where nothing does."""
    starts = list(range(0, len(steps), size))[::-1]
    for first in range(0, len(starts), at_once):
        if time.monotonic() > ends:
            return None
        tried = [[*steps[:start], *steps[start + size :]] for start in starts[first : first + at_once]]
        for shorter, failed in zip(tried, pool.map(fails, tried), strict=True):
            if failed:
                return shorter
    return None


def kinds_of(problems: Sequence[str]) -> frozenset[str]:
    """Return what kinds of problems these are: two failures are the same where they share one."""
    return frozenset(problem.partition(":")[0] for problem in problems)
