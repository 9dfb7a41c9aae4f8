"""What the clients asked for and what they were told, and what a name may hold in the end.

    effect     the client was told                                       the operation
    DONE       2xx; or of a delete that it stays owed                    was carried out between begin and end
    NONE       that it was refused and withdrawn, or was never sent      leaves nothing
    PERHAPS    nothing, or an error that promises nothing                may have been carried out, until its end

A name is a register, written by saves and deletes that may overlap. What it holds in the end must be what some
operation wrote that can have been the last one (linearizability): none that was DONE began after that one ended. A save
that does not overwrite may get another name than it asked for, which its client hears with the answer.
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

from resto_wsgi.names import split_extension

__all__ = ["Effect", "Ledger", "Operation"]

NEVER = float("inf")


class Effect(enum.Enum):
    """What an operation did, as far as its client knows."""

    DONE = "done"
    NONE = "none"
    PERHAPS = "perhaps"


@dataclass
class Operation:
    """A save of the content ``value``, or a delete where that is None; ``name`` is None until the client hears it.

    ``varied``: it may be there under this name with a suffix, as long as its client has not heard which.
    """

    name: str | None
    value: str | None
    begun: float
    ended: float = NEVER
    effect: Effect = Effect.PERHAPS
    varied: bool = False


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

    def begin(self, name: str | None, value: str | None, *, varied: bool = False) -> Operation:
        """Note an operation before it is sent."""
        operation = Operation(name, value, self._clock(), varied=varied)
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
            if name is not None:
                operation.varied = False
                self._rename(operation, name)
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
        if operation is None or operation.name in (name, None):
            return operation is not None
        return operation.varied and _is_variation(name, operation.name or "")

    def legal(self, name: str) -> set[str | None]:
        """Return what a name may hold now that nothing is under way; None is absence."""
        with self._lock:
            written = [each for each in self._by_name.get(name, ()) if each.effect is not Effect.NONE]
        latest = max((each.begun for each in written if each.effect is Effect.DONE), default=None)
        if latest is None:
            return {None, *(each.value for each in written)}
        return {each.value for each in written if each.ended >= latest}

    def allows(self, name: str, value: str | None) -> bool:
        """True where a name may hold this now, also one that its client was never told; None is absence."""
        with self._lock:
            known = name in self._by_name
        operation = None if value is None else self.operation_of(value)
        if known or operation is None:
            return value in self.legal(name)
        return operation.effect is not Effect.NONE and self.was_sent(name, operation.value or "")

    def is_only_saved(self, name: str) -> bool:
        """True where every operation on a name is a save that was done: it was there ever since the first."""
        with self._lock:
            written = self._by_name.get(name, [])
            return bool(written) and all(each.effect is Effect.DONE and each.value is not None for each in written)

    def readable(self, name: str, begun: float, ended: float) -> set[str | None]:
        """Return what a reader may have found who began and ended then; None is absence.

        What was refused may have been seen until its client was told.
        """
        with self._lock:
            written = [Operation(name, None, -1.0, -1.0, Effect.DONE), *self._by_name.get(name, ())]
        done = [each for each in written if each.effect is Effect.DONE]
        seen = [
            each for each in written if each.begun <= ended and (each.effect is not Effect.NONE or each.ended >= begun)
        ]
        # Whatever somebody wrote may be seen, unless another that was done began after it, and ended before the reader.
        return {
            each.value for each in seen if not any(each.ended < other.begun and other.ended < begun for other in done)
        }

    def _rename(self, operation: Operation, name: str) -> None:
        if operation.name == name:
            return
        if operation.name is not None:
            self._by_name[operation.name].remove(operation)
        operation.name = name
        self._file(name, operation)

    def _file(self, name: str, operation: Operation) -> None:
        if name not in self._by_name:
            self._by_name[name] = []
            self._names.append(name)
        self._by_name[name].append(operation)


def _is_variation(name: str, wanted: str) -> bool:
    """True where ``name`` is what a save may get that finds ``wanted`` taken."""
    stem, extension = split_extension(wanted)
    return name.startswith(f"{stem}-") and name.endswith(extension)
