"""What the clients asked for and what they were told, and what a name may hold in the end.

    effect     the client was told                                       the operation
    DONE       2xx; or of a delete that it stays owed                    was carried out between begin and end
    NONE       that it was refused and withdrawn, or was never sent      leaves nothing
    PERHAPS    nothing, or an error that promises nothing                may have been carried out, until its end

A name is a register, written by saves and deletes that may overlap. What it holds in the end must be what some
operation wrote that can have been the last one (linearizability): none that was DONE began after that one ended.
Times come from ``time.monotonic`` of one process. Any thread may call.
"""

from __future__ import annotations

import collections
import enum
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Effect", "Ledger", "Operation"]

NEVER = float("inf")


class Effect(enum.Enum):
    """What an operation did, as far as its client knows."""

    DONE = "done"
    NONE = "none"
    PERHAPS = "perhaps"


@dataclass
class Operation:
    """A save of the content ``value``, or a delete where that is None; ``name`` is None until the client hears it."""

    name: str | None
    value: str | None
    begun: float
    ended: float = NEVER
    effect: Effect = Effect.PERHAPS


class Ledger:
    """All operations of a run; ``prefix`` makes the ids of its contents its own."""

    def __init__(self, prefix: str = "c", clock: Callable[[], float] = time.monotonic) -> None:
        self._prefix = prefix
        self._clock = clock
        self._lock = threading.Lock()
        self._serial = itertools.count(1)
        self._by_name: dict[str, list[Operation]] = {}
        self._names: list[str] = []
        self._by_value: dict[str, Operation] = {}
        self.outcomes: collections.Counter[str] = collections.Counter()

    def new_value(self) -> str:
        """Return the id of a content that nobody sent yet."""
        return f"{self._prefix}-{next(self._serial)}"

    def begin(self, name: str | None, value: str | None) -> Operation:
        """Note an operation before it is sent."""
        operation = Operation(name, value, self._clock())
        with self._lock:
            if value is not None:
                self._by_value[value] = operation
            if name is not None:
                self._file(name, operation)
        return operation

    def end(self, operation: Operation, effect: Effect, *, name: str | None = None, open_end: bool = False) -> None:
        """Note what the client was told. ``open_end``: it waits no more, but the server may still be at it."""
        with self._lock:
            operation.effect = effect
            operation.ended = NEVER if open_end else self._clock()
            if operation.name is None and name is not None:
                operation.name = name
                self._file(name, operation)
            self.outcomes[effect.value] += 1

    def names(self) -> list[str]:
        """Return every name that an operation is known to be of."""
        with self._lock:
            return list(self._names)

    def some_name(self, chance: random.Random, latest: int) -> str | None:
        """Return any name, most often one of the latest; None where there is none yet."""
        with self._lock:
            first = max(0, len(self._names) - latest) if chance.random() < 0.8 else 0
            return self._names[chance.randrange(first, len(self._names))] if self._names else None

    def operation_of(self, value: str) -> Operation | None:
        """Return the save that sent a content."""
        with self._lock:
            return self._by_value.get(value)

    def was_sent(self, name: str, value: str) -> bool:
        """True where a content was sent for this name, or for one that its client was never told."""
        operation = self.operation_of(value)
        return operation is not None and operation.name in (name, None)

    def legal(self, name: str) -> set[str | None]:
        """Return what a name may hold now that nothing is under way; None is absence."""
        with self._lock:
            written = [each for each in self._by_name.get(name, ()) if each.effect is not Effect.NONE]
        latest = max((each.begun for each in written if each.effect is Effect.DONE), default=None)
        if latest is None:
            return {None, *(each.value for each in written)}
        return {each.value for each in written if each.ended >= latest}

    def _file(self, name: str, operation: Operation) -> None:
        if name not in self._by_name:
            self._by_name[name] = []
            self._names.append(name)
        self._by_name[name].append(operation)
