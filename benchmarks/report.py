"""What is printed and written of a run. The table is reStructuredText, so that it can go into the README as it is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .rows import OURS, Row, Verdict, cpu, rss, verdict

__all__ = ["Outcome", "as_mapping", "table"]

HEADER = ("row", "ours", "its", "against", "ratio (min..max)", "reach", "met", "CPU s, ours/its", "RSS MiB, ours/its")


@dataclass
class Outcome:
    """The runs of a row, by side, and what was wrong with them."""

    row: Row
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def verdicts(self) -> list[Verdict]:
        every = (verdict(line, self.runs) for line in self.row.lines)
        return [each for each in every if each is not None]

    def as_mapping(self) -> dict[str, Any]:
        return {
            "row": self.row.key,
            "title": self.row.title,
            "says": self.row.says,
            "lines": [each.as_mapping() for each in self.verdicts],
            "problems": self.problems,
            "runs": self.runs,
        }


def as_mapping(scale: str, turns: int, machine: Mapping[str, str], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows = [outcome.as_mapping() for outcome in outcomes]
    return {"scale": scale, "turns": turns, "machine": machine, "rows": rows}


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table and, below it, what each row is and is not, and what went wrong."""
    cells: list[tuple[str, ...]] = [HEADER]
    for outcome in outcomes:
        cells += _lines(outcome)
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    border = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    text = [border, lines[0], border, *lines[1:], border, ""]
    text += [f"* {outcome.row.title}: {outcome.row.says}" for outcome in outcomes]
    for outcome in outcomes:
        text += [f"FAILED {outcome.row.key}: {problem}" for problem in outcome.problems]
    return "\n".join(text)


def _lines(outcome: Outcome) -> list[tuple[str, ...]]:
    found = []
    for number, each in enumerate(outcome.verdicts):
        # The first column of a simple table must not be empty: that would continue the line above.
        first = outcome.row.title if number == 0 else "\\"
        its = "" if each.its is None else f"{_number(each.its)} {each.unit}"
        ours = f"{_number(each.ours)} {each.unit}"
        spread = "" if each.how == "alone" else f"{_number(min(each.values))}..{_number(max(each.values))}"
        sign = "+" if each.how == "minus" and each.value >= 0 else ""
        value = "" if each.how == "alone" else f"{sign}{_number(each.value)} ({spread})"
        met = {None: "", True: "yes", False: "NO"}[each.met]
        peer = each.peer.split(", ")[-1]
        both = [f"{_both(outcome, peer, of)}" for of in (cpu, rss)] if peer in outcome.runs else ["", ""]
        reach = "" if each.reach is None else str(each.reach)
        found.append((first, ours, its, each.peer, value, reach, met, *both))
    if not found:
        found.append((outcome.row.title, "not run", *[""] * (len(HEADER) - 2)))
    return found


def _both(outcome: Outcome, peer: str, of: Any) -> str:
    ours, its = (statistics.median(map(of, outcome.runs[side])) for side in (OURS, peer))
    return f"{_number(ours)}/{_number(its)}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
