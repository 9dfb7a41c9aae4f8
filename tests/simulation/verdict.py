"""What must be true in the end of a history, and the figures of one or of many.

Every host equals the master, name by name and byte by byte; nothing is owed; whatever a name holds is explained by what
the clients were told; nothing is there that nobody sent. In mode distributed, which keeps no master, the hosts
equal one another, and no spool is left.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from .history import NAMES, History

__all__ = ["judge", "total"]

SUMS = ("operations", "acknowledged", "refused", "withdrawn", "unknown", "steps", "simulated seconds", "files read")


def judge(history: History) -> dict[str, Any]:
    """Return the figures of a history that was played; its ``problems`` are complete then."""
    _judge_hosts(history)
    _judge_names(history)
    told = Counter(operation.told for operation in history.operations)
    return {
        "seed": history.seed,
        "mode": history.mode["mode"],
        "problems": history.problems,
        "operations": len(history.operations),
        "acknowledged": told["acknowledged"],
        "refused": told["refused"],
        "withdrawn": told["withdrawn"],
        "unknown": told["unknown"],
        "counts": dict(history.counts),
        "faults": dict(history.network.counts - Counter(each.kind for each in history.operations)),
        "seconds to converge": max(0.0, history.converged_at - history.network.last_fault),
        "simulated seconds": history.converged_at,
        "files read": history.files_read,
        "steps": history.kernel.steps,
    }


def truth(history: History) -> dict[str, bytes]:
    """What all must hold: the master, or in mode distributed the first host."""
    if not history.distributed:
        return {name: inode.content for name, inode in history.disk.files.items()}
    return next(iter(history.network.servers.values())).files


def _judge_hosts(history: History) -> None:
    expected = truth(history)
    for server in history.network.servers.values():
        for name in sorted(expected.keys() | server.files.keys()):
            if expected.get(name) != server.files.get(name):
                found = f"has {server.files.get(name)!r} as {name}, not {expected.get(name)!r}"
                history.problems.append(f"different: {server.url} {found}")
    if history.distributed and history.disk.files:
        history.problems.append(f"spool left: {sorted(history.disk.files)}")
    if history.disk.held:
        history.problems.append(f"locks left: {sorted(history.disk.held)}")


def _judge_names(history: History) -> None:
    expected = truth(history)
    for name, content in expected.items():
        history.check_sent("the end", name, content)
    for name in sorted({*NAMES, *expected, *(each.name for each in history.operations)}):
        history.check_explained(name, expected.get(name))


def total(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of many histories as one."""
    seconds = sorted(result["seconds to converge"] for result in results) or [0.0]
    problems = [problem for result in results for problem in result["problems"]]
    sums = {key: sum(result[key] for result in results) for key in SUMS}
    faults: Counter[str] = Counter()
    for result in results:
        faults.update(result["faults"])
    return {
        "histories": len(results),
        **sums,
        "faults": dict(sorted(faults.items())),
        "lost": sum(problem.startswith("lost") for problem in problems),
        "resurrected": sum(problem.startswith("resurrected") for problem in problems),
        "torn": sum(problem.startswith("torn") for problem in problems),
        "different": sum(problem.startswith("different") for problem in problems),
        "other problems": sum(
            not problem.startswith(("lost", "resurrected", "torn", "different")) for problem in problems
        ),
        "failing seeds": {result["seed"]: result["problems"] for result in results if result["problems"]},
        "seconds to converge": {"median": seconds[len(seconds) // 2], "max": seconds[-1]},
    }
