"""What became of one PUT or DELETE on each node of a subtree: one line for each node, as text or as JSON.

The text is that of nginx.filedist, with the lines that it leaves out: ``success: HOST/uri stored: 5bytes``,
``success: HOST/uri deleted``, ``owed: HOST/uri: why``. Whatever a child has told is taken apart and written anew, and
is bounded: a child, or what answers in its place, puts no line of its own into an answer of ours. Values only.
``relay`` writes reports, ``node_transport`` reads those of children.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...errors import shown
from ...names import quote
from ..answers import JSON

__all__ = ["Line", "as_json", "as_text", "for_parent", "owed", "parse", "unique"]

STATES = ("stored", "deleted", "absent", "owed", "refused")
BAD = ("owed", "refused")
LINES_MAX = 5000  # of a report that are taken from a child
REASON_CHARACTERS_MAX = 200
PARENT_BYTES_MAX = 40 * 1024  # of a report for a node above, which reads no more than 64 KiB of an answer
LINE_BYTES_MAX = 600  # of that: a URL, a reason and what JSON adds
LEVEL_MAX = 64  # more than any tree has

_NODE = re.compile(r"[A-Za-z0-9._~:/\[\]%-]{1,300}")


@dataclass(frozen=True)
class Line:
    """One node: ``node`` is its URL without the scheme, "" for the one that tells; ``size`` is in bytes.

    ``level`` is how many levels it is below the one that tells.
    """

    node: str
    state: str
    size: int | None = None
    reason: str = ""
    level: int = 0

    @property
    def good(self) -> bool:
        """Whether the node matches its parent."""
        return self.state not in BAD

    def below(self, parent: str) -> Line:
        """Return the line as the node above tells it, which knows the teller as ``parent``."""
        return Line(self.node or parent, self.state, self.size, self.reason, self.level + 1)


def owed(lines: Iterable[Line]) -> int:
    """Return how many nodes do not match their parents yet."""
    return sum(not each.good for each in lines)


def unique(lines: Iterable[Line]) -> list[Line]:
    """Return one line of each node, if several ways lead to one: the worst of them, or the one that did something."""
    found: dict[str, Line] = {}
    for each in lines:
        known = found.setdefault(each.node, each)
        if (each.state in BAD, each.state != "absent") > (known.state in BAD, known.state != "absent"):
            found[each.node] = each
    return [*found.values()]


def as_text(lines: Iterable[Line], own: str, name: str) -> str:
    """Return one line for each node; ``own`` is what this one is called."""
    return "".join(f"{_sentence(each, f'{each.node or own}/{quote(name)}')}\n" for each in lines)


def as_json(lines: Sequence[Line], own: str, name: str) -> str:
    """Return the same for programs."""
    return json.dumps({"name": name, "owed": owed(lines), "nodes": [_record(each, own) for each in lines]}) + "\n"


def for_parent(lines: Sequence[Line], name: str) -> str:
    """Return the JSON for a node above; if there are too many nodes, only those that are owed the change."""
    text = as_json(lines, "", name)
    if len(text) <= PARENT_BYTES_MAX:
        return text
    bad = [each for each in lines if not each.good]
    return as_json([lines[0], *bad[: PARENT_BYTES_MAX // LINE_BYTES_MAX]], "", name)


def parse(body: bytes, kind: str) -> list[Line] | None:
    """Return what a child has told, None if it has told nothing that can be understood."""
    if kind.partition(";")[0].strip().lower() != JSON:
        return None
    try:
        nodes = json.loads(body)["nodes"]
        return [_line(each) for each in nodes[:LINES_MAX]] or None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _line(record: dict[str, object]) -> Line:
    node, state, size, level = record["node"], record["state"], record.get("bytes"), record.get("level", 0)
    reason = record.get("reason", "")
    if not isinstance(node, str) or not (node == "" or _NODE.fullmatch(node)) or state not in STATES:
        raise ValueError("no node")
    if not (size is None or (isinstance(size, int) and 0 <= size < 1 << 63)) or not isinstance(level, int):
        raise TypeError("no size")
    if not isinstance(reason, str) or not 0 <= level <= LEVEL_MAX:
        raise TypeError("no reason")
    return Line(node, str(state), size, _bounded(reason), level)


def _record(line: Line, own: str) -> dict[str, object]:
    record: dict[str, object] = {"node": line.node or own, "state": line.state, "level": line.level}
    if line.size is not None:
        record["bytes"] = line.size
    return {**record, "reason": line.reason} if line.reason else record


def _sentence(line: Line, url: str) -> str:
    if not line.good:
        return f"{line.state}: {url}: {line.reason}"
    return f"success: {url} {line.state}" if line.size is None else f"success: {url} stored: {line.size}bytes"


def _bounded(reason: str) -> str:
    if reason.isascii() and reason.isprintable():
        return reason[:REASON_CHARACTERS_MAX]
    return shown(reason, REASON_CHARACTERS_MAX)
