"""The figures of each part, and the table of them all.

``Figures`` is what a part returns, and travels as JSON between processes; a part that was built elsewhere (the
simulation) returns a mapping of which the fields that are known here are taken. A part failed where something was
lost, resurrected, torn, unsent, left over or still owed, where it did not converge, or where it found a problem.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .judge import Verdict

__all__ = ["COUNTED", "Figures", "print_table"]

COUNTED = ("lost", "resurrected", "torn", "unsent", "left_over", "owed")
SHOWN = 20  # problems that are printed of each part


@dataclass
class Figures:
    """``converged`` in seconds from the last fault, None where that took too long; ``took`` in seconds.

    ``story`` tells step by step how something failed, and is printed as it is.
    """

    part: str
    seed: int
    operations: int = 0
    acknowledged: int = 0
    refused: int = 0
    unanswered: int = 0
    reads: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    resurrected: int = 0
    torn: int = 0
    unsent: int = 0
    left_over: int = 0
    owed: int = 0
    converged: float | None = None
    took: float = 0.0
    skipped: str = ""
    answers: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        bad = any(getattr(self, kind) for kind in COUNTED) or bool(self.problems)
        return not self.skipped and (bad or self.converged is None)

    def take(self, verdict: Verdict) -> None:
        """Count the findings of a verdict, and keep the first of them as problems."""
        for kind, found in verdict.findings.items():
            setattr(self, kind, getattr(self, kind) + len(found))
            self.problems += [f"{kind}: {line}" for line in found[:SHOWN]]

    def as_mapping(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, part: str, seed: int, values: Mapping[str, Any]) -> Figures:
        """Return the figures of the simulation, or of what calls them the same; what is not known here is a note."""
        left = dict(values)
        known = {each.name for each in dataclasses.fields(cls)} - {"part", "seed"}
        figures = cls(part, seed, **{key: left.pop(key) for key in known & left.keys()})
        figures.unanswered += left.pop("unknown", 0)
        figures.converged = left.pop("seconds to converge", {}).get("max", figures.converged)
        for failing, problems in left.pop("failing seeds", {}).items():
            figures.problems += [f"seed {failing}: {problem}" for problem in problems]
        figures.notes |= left
        return figures


def print_table(parts: Iterable[Figures]) -> None:
    """Print a column for each part, and below the table what was found and what was skipped."""
    parts = list(parts)
    columns = [[figures.part for figures in parts], *_rows(parts)]
    _print(["", *columns[0]], columns[1:])
    for figures in parts:
        if figures.skipped:
            print(f"{figures.part}: skipped: {figures.skipped}")
        for key, value in figures.notes.items():
            print(f"{figures.part}: {key}: {value}")
        for problem in figures.problems[:SHOWN]:
            print(f"{figures.part}: FOUND {_in_one_line(problem)}")
        if len(figures.problems) > SHOWN:
            print(f"{figures.part}: and {len(figures.problems) - SHOWN} more")
        for line in figures.story:
            print(f"    {line}")


def _rows(parts: list[Figures]) -> list[list[str]]:
    rows = [_row(parts, "seed"), _row(parts, "operations")]
    kinds = sorted({kind for figures in parts for kind in figures.faults})
    rows += [[f"fault: {kind}", *(_number(figures.faults.get(kind, 0)) for figures in parts)] for kind in kinds]
    rows += [_row(parts, name) for name in ("acknowledged", "refused", "unanswered", "reads")]
    rows += [_row(parts, name) for name in COUNTED]
    rows.append(["converged after, s", *(_seconds(figures.converged) for figures in parts)])
    rows.append(["took, s", *(_seconds(figures.took) for figures in parts)])
    rows.append(["", *(_result(figures) for figures in parts)])
    return rows


def _row(parts: list[Figures], name: str) -> list[str]:
    label = {"torn": "torn reads", "owed": "still owed", "left_over": "left over"}.get(name, name)
    shown = str if name == "seed" else _number
    return [label, *(shown(getattr(figures, name)) for figures in parts)]


def _in_one_line(problem: str) -> str:
    """Return a problem; of a traceback where it was and what was raised."""
    lines = problem.strip().splitlines()
    return problem if len(lines) < 2 else f"{lines[0]} ... {lines[-1]}"


def _number(value: int) -> str:
    return f"{value:,}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _result(figures: Figures) -> str:
    if figures.skipped:
        return "skipped"
    return "FAILED" if figures.failed else "ok"


def _print(header: list[str], rows: list[list[str]]) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:  # it is an extra
        for row in [header, *rows]:
            print(f"{row[0]:32}" + "".join(f"{cell:>14}" for cell in row[1:]))
        return
    table = Table(box=box.SIMPLE)
    for number, title in enumerate(header):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=max(100, Console().width)).print(table)
