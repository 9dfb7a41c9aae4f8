"""What clients and the administrator do in a history, what they were told, and what may be there in the end.

    told             what it means for the name
    acknowledged     it took effect, between its beginning and its end
    refused          it took none
    withdrawn        the same
    unknown          its process was killed: it took effect before that, or never

So a state of a name can be explained by an operation that left it, unless another one that certainly took effect
began after that one had ended. This is the linearizability of a register, checked for its final value and for reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resto_wsgi.errors import MediaRootError, OutboxError, ReplicationError
from resto_wsgi.replicator import Replicator

from .kernel import Kernel, Killed

__all__ = ["NOT_YET", "Operation", "Register", "explains", "perform"]

NOT_YET = 1 << 60  # the step at which an operation under way ends, as far as is known
REFUSALS = (ReplicationError, MediaRootError, OutboxError, FileExistsError)


@dataclass(eq=False)
class Operation:
    """One operation; ``begun`` and ``ended`` count the steps of the kernel. ``content`` is None for a delete."""

    number: int
    kind: str
    name: str
    content: bytes | None
    begun: int
    ended: int
    told: str = "unknown"

    def __str__(self) -> str:
        return f"#{self.number} {self.kind} {self.name} [{self.begun}..{self.ended}] {self.told}"

    @property
    def certain(self) -> bool:
        """True where it certainly took effect."""
        return self.told == "acknowledged"


Register = list[Operation]
"""All operations on one name."""


def explains(register: Register, content: bytes | None, begun: int, ended: int) -> bool:
    """True where somebody who looked from ``begun`` to ``ended`` may have found this content."""
    nothing = Operation(0, "nothing", "", None, -1, -1, "acknowledged")
    certain = [operation for operation in register if operation.certain]
    for left in (nothing, *register):
        if left.content != content or left.begun > ended:
            continue
        if left.told in ("refused", "withdrawn") and left.ended < begun:
            continue
        if not any(left.ended < other.begun and other.ended < begun for other in certain):
            return True
    return False


def perform(operation: Operation, replicator: Replicator, kernel: Kernel, told: Callable[[str], None]) -> None:
    """Do what a client does, and note what it was told. ``told`` hears of what the product could not put right."""
    kernel.note(f"BEGINS {operation}")
    try:
        operation.told = ACTIONS[operation.kind](operation, replicator, kernel, told)
    except REFUSALS as error:
        operation.told = "refused"
        kernel.note(f"{type(error).__name__}: {error}")
    except Killed:
        operation.ended = kernel.steps
        raise
    operation.ended = kernel.steps
    kernel.note(f"ENDS {operation}")


def _save(operation: Operation, replicator: Replicator, kernel: Kernel, told: Callable[[str], None]) -> str:
    assert operation.content is not None
    operation.name = replicator.save(operation.name, operation.content, overwrite=operation.kind == "overwrite").name
    return "acknowledged"


def _delete(operation: Operation, replicator: Replicator, kernel: Kernel, told: Callable[[str], None]) -> str:
    try:
        replicator.delete(operation.name)
    except ReplicationError:
        kernel.note("the delete stays owed")
    except OutboxError as error:  # a delete is never taken back, and this one may have got as far as the master
        kernel.note(f"delete {operation.name}: {error}")
        return "unknown"
    return "acknowledged"


def _publish(operation: Operation, replicator: Replicator, kernel: Kernel, told: Callable[[str], None]) -> str:
    """What the middleware does: publish, see what the application answers, then withdraw or keep."""
    assert operation.content is not None
    staged = replicator.stage()
    try:
        staged.write(operation.content)
        _, publication = replicator.publish(staged, operation.name, overwrite=kernel.chance.random() < 0.7)
        kernel.sleep(kernel.chance.choice((0.0, 0.01, 1.0)), "the application answers")
        if operation.kind == "publish, keep":
            replicator.keep(publication)
            return "acknowledged"
        try:
            replicator.withdraw(publication)
        except (OutboxError, MediaRootError) as error:  # it stands, everywhere
            kernel.note(f"withdraw {operation.name}: {error}")
            replicator.keep(publication)
            return "unknown"
        return "withdrawn"
    finally:
        staged.discard()


def _read(operation: Operation, replicator: Replicator, kernel: Kernel, told: Callable[[str], None]) -> str:
    try:
        with replicator.open(operation.name) as file:
            operation.content = file.read()
    except FileNotFoundError:
        operation.content = None
    return "read"


ACTIONS = {
    "save": _save,
    "overwrite": _save,
    "delete": _delete,
    "publish, withdraw": _publish,
    "publish, keep": _publish,
    "read": _read,
}
