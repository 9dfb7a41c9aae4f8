"""Writes the outbox that a version before this one would leave: run once with that version, and kept beside this file.

    git worktree add ../before 11cfc96                                 # version-2; d267f10^ for version-1
    PYTHONPATH=../before python tests/outbox/written_before/write.py tests/outbox/written_before/version-2.sqlite3

Both commits have ``resto_wsgi/outbox.py``, whose hosts are URLs. What is written is what test_written_before expects.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

NOW = 1_800_000_000.0  # seconds since 1970
A, B, C = "http://media-01:8080/media", "https://media-02/media", "http://old-media/media"
LONG = "ordner/" + "ж" * 120 + "/" + "x" * 700


class Clock:
    """Seconds since 1970, moved by hand."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def write(path: str, outbox_module: Any) -> None:
    """Write one row of each kind that there is."""
    clock = Clock()
    outbox = outbox_module.Outbox(path, identity="5e0d" * 8, kind="a master", clock=clock)
    failure = outbox_module.Failure

    def record(name: str, hosts: list[str], **keywords: Any) -> Any:
        return outbox.record(name, hosts, **{"begin": True, "due": NOW + 5, **keywords})

    for name in ("settled.jpg", 'it\'s "50 %".jpg', "ж/猫.jpg", LONG):
        outbox.settle([record(name, [A, B, C])[A]])
    record("begun.jpg", [A, B, C])
    outbox.release([record("released.jpg", [A, B, C])[B]], NOW + 30)

    failed = record("failed.jpg", [A, B, C])
    outbox.settle([failed[A]], [failure(failed[B], NOW + 60, "refused: connection refused", None)])
    unsure = record("unsure.jpg", [A, B, C])
    outbox.settle([unsure[A]], [failure(unsure[B], NOW + 2, "no answer within 10 s", unsure_until=NOW + 20)])
    converged = record("converged.jpg", [A, B, C])
    outbox.settle([], [failure(converged[B], NOW + 1, "no answer within 10 s", unsure_until=NOW + 20)])
    outbox.settle([converged[A], *outbox.claim(B, ["converged.jpg"])])
    parked = record("parked.exe", [A, B, C])
    outbox.settle([parked[A]], [failure(parked[B], NOW + 86400, "403 Forbidden", 403, parked=True)])
    large = record("parked.iso", [A, B, C])
    outbox.settle([large[A]], [failure(large[B], NOW + 86400, "413 Content Too Large", 413, parked=True)])

    record("deleted.jpg", [A, B, C], gone=True)
    clock.now += 100
    record("deleted and owed no more.jpg", [], gone=True)
    outbox.entomb("withdrawn.jpg")
    outbox.entomb("back.jpg")
    outbox.exhume("back.jpg")
    outbox.settle((), present="held/by hosts.jpg", sha256="ab" * 32)
    outbox.settle((), present="held/unknown.jpg")
    outbox.owe(C, [f"filled/{number:03}.jpg" for number in range(120)])

    state = outbox_module.HostState
    outbox.note_host(state(A, "up", NOW - 3600, 0, 0.0, "", NOW))
    outbox.note_host(state(B, "down", NOW + 10, 4, NOW + 160, "no answer within 10 s", NOW + 100))
    outbox.note_host(state(C, "read-only", NOW, 1, NOW + 900, "403 Forbidden", NOW + 50))
    with contextlib.suppress(TypeError):  # only version 2 knows it
        outbox.record("passed on.jpg", [B], begin=False, due=NOW, way="node-1, node-2")
    outbox.admit(A)
    outbox.admit(B)
    outbox.admit(C, joining=14)
    outbox.close()


if __name__ == "__main__":
    from resto_wsgi import outbox as module

    write(sys.argv[1], module)
