"""The figures of the process under test: what the clock showed while it did its work."""

from __future__ import annotations

import resource
import sys
import threading
import time
from typing import Any

__all__ = ["Clock", "peak_rss"]


def peak_rss(pid: int | str = "self") -> int:
    """Return the largest resident size so far, in bytes. (``ru_maxrss`` would count the parent before exec, too.)"""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


class Clock:
    """Seconds of the wall and of the processor (user and system, all threads) between enter and exit."""

    profile = False

    def __enter__(self) -> Clock:
        self._profiles = _Profiles() if self.profile else None
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu = usage.ru_utime + usage.ru_stime
        self._wall = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu = usage.ru_utime + usage.ru_stime - self._cpu
        self.rss = peak_rss()
        if self._profiles is not None:
            self._profiles.show(self.seconds, self.cpu)

    def figures(self, units: int = 1, **more: Any) -> dict[str, Any]:
        """Return what was measured; ``units`` is how many things were done."""
        return {"seconds": self.seconds, "cpu": self.cpu, "rss": self.rss, "units": units, **more}


class _Profiles:
    """A profile of this thread, and of each thread that starts while it runs."""

    def __init__(self) -> None:
        import cProfile

        self._all = [cProfile.Profile()]
        self._run = run = threading.Thread.run

        def profiled(thread: threading.Thread) -> None:
            own = cProfile.Profile()
            self._all.append(own)
            own.runcall(run, thread)

        threading.Thread.run = profiled  # type: ignore[method-assign,assignment]
        self._all[0].enable()

    def show(self, seconds: float, cpu: float) -> None:
        import pstats

        for each in self._all:
            each.disable()
        threading.Thread.run = self._run  # type: ignore[method-assign]
        print(f"{seconds:.2f} s, {cpu:.2f} s of CPU, with the profiler's own", file=sys.stderr)
        stats = pstats.Stats(*self._all, stream=sys.stderr)
        stats.strip_dirs().sort_stats("tottime").print_stats(30)
