"""The product broken on purpose, in ways that its users would not see at once; the model has to see each of them.

Nothing of its code is edited. What it stands on is what lies: the kernel's locks and files, as Python shows them, and
the tables of its outbox, whose format stays. So a mutant outlives any other cut of the product. ``install`` is called
in the processes of the application, before and after they make their replicator; hosts and the judge are sound.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resto_wsgi import Replicator

__all__ = ["MUTANTS", "Mutant", "install", "spoil"]

NAPS = 0.8  # how often a call of the file system takes a nap where nothing is locked
NAP = 0.08  # seconds at most: what a busy machine does to a thread
REMEMBERED = 2.0  # seconds for which the state of an opened file is believed
HALF = 0.1  # seconds between the two halves of a file that is written in place


@dataclass(frozen=True)
class Mutant:
    """One way to break it. ``given`` and ``weights`` make histories in which that matters; see ``plan.draw``.

    ``patch`` is done to the process, ``triggers`` to the outbox; ``lines`` are switched on, and sound products of today
    fail in them too.
    """

    given: Mapping[str, Any]
    weights: Mapping[str, int]
    patch: Callable[[str], None] = lambda media_root: None
    triggers: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()


def install(name: str, media_root: str) -> None:
    """Break this process, before it makes its replicator."""
    if name:
        MUTANTS[name].patch(os.path.realpath(media_root))


def spoil(name: str, media_root: str) -> None:
    """Break the outbox, when there is one."""
    if not name or not MUTANTS[name].triggers:
        return
    path = os.path.join(media_root, ".resto", "outbox.sqlite3")
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        for number, trigger in enumerate(MUTANTS[name].triggers):
            connection.execute(f"CREATE TRIGGER IF NOT EXISTS broken_{number} {trigger}")


def _lock_nothing(media_root: str) -> None:
    """Every name can be had; and as nobody waits, threads are interrupted where that matters."""
    real = fcntl.fcntl

    def unlocked(fd: int, command: int, *rest: Any) -> Any:
        return 0 if command in (fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW) else real(fd, command, *rest)

    fcntl.fcntl = unlocked  # type: ignore[assignment]
    for name in ("replace", "unlink"):
        setattr(os, name, _napping(getattr(os, name)))


def _napping(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **keywords: Any) -> Any:
        if random.random() < NAPS and threading.current_thread() is not threading.main_thread():
            time.sleep(random.uniform(0, NAP))
        return real(*args, **keywords)

    return call


def _look_once(media_root: str) -> None:
    """Who has opened a file is told for a while that it is still that one."""
    open_file, stat = os.open, os.stat
    seen: dict[tuple[int, str], tuple[float, os.stat_result]] = {}

    def opened(path: Any, flags: int, *args: Any, **keywords: Any) -> int:
        descriptor = open_file(path, flags, *args, **keywords)
        if (key := _key(path, keywords.get("dir_fd"), media_root)) and not flags & (os.O_WRONLY | os.O_RDWR):
            seen[key] = time.monotonic(), os.fstat(descriptor)
        return descriptor

    def looked_at(path: Any, **keywords: Any) -> os.stat_result:
        key = _key(path, keywords.get("dir_fd"), media_root)
        at, status = seen.get(key, (0.0, None)) if key else (0.0, None)
        return status if status is not None and time.monotonic() - at < REMEMBERED else stat(path, **keywords)

    os.open, os.stat = opened, looked_at


def _key(path: Any, folder: int | None, media_root: str) -> tuple[int, str] | None:
    """A file of the media root and this thread; None of anything else."""
    if not isinstance(path, (str, bytes)):
        return None
    where = _path(path, folder)
    inside = where.startswith(f"{media_root}/") and not where.startswith(f"{media_root}/.resto")
    return (threading.get_ident(), where) if inside else None


def _path(path: str | bytes, folder: int | None) -> str:
    """Return a path that is relative to an open folder."""
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}") if folder is not None else "", os.fsdecode(path))


def _write_in_place(media_root: str) -> None:
    """A name is given to a file by copying the file there, half by half."""
    for name in ("link", "replace"):
        setattr(os, name, _copying(name, getattr(os, name), media_root))


def _copying(name: str, real: Callable[..., None], media_root: str) -> Callable[..., None]:
    def give(source: Any, target: Any, **keywords: Any) -> None:
        if _key(target, keywords.get("dst_dir_fd"), media_root) is None:
            real(source, target, **keywords)
            return
        source, target = _path(source, keywords.get("src_dir_fd")), _path(target, keywords.get("dst_dir_fd"))
        if name == "link" and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "there is a file", target)
        with open(source, "rb") as file:
            content = file.read()
        with open(target, "wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            time.sleep(HALF)
            file.write(content[len(content) // 2 :])
        if name == "replace":
            os.unlink(source)

    return give


def _say_that_all_is_well(media_root: str) -> None:
    real: Any = Replicator.status

    def status(self: Replicator, name: str | None = None, *, ask: bool = False) -> Any:
        found = real(self, name)
        if name is not None:
            return dataclasses.replace(found, owing={}, new=())
        well = {"state": "up", "owed": 0, "parked": 0, "error": "", "everything": False}
        hosts = tuple(dataclasses.replace(host, **well) for host in found.hosts)
        return dataclasses.replace(found, hosts=hosts)

    Replicator.status = status  # type: ignore[method-assign]


OWED_NO_MORE = "DELETE FROM deliveries WHERE name = NEW.name AND host = NEW.host"
GONE = "INSERT OR IGNORE INTO names (name, gone) VALUES (NEW.name, NEW.since)"
NGINX = {"kinds": ("nginx", "nginx", "nginx"), "disk": "", "patient": False, "background": True}
OUTAGES = {"kill": 5, "link": 10}

MUTANTS: dict[str, Mutant] = {
    "settles before the answer": Mutant(
        {**NGINX, "mode": "hybrid", "proxied": True, "required": "1"},
        OUTAGES,
        triggers=(
            f"AFTER INSERT ON deliveries WHEN NEW.begun IS NOT NULL BEGIN {OWED_NO_MORE}; END",
            f"AFTER UPDATE OF begun ON deliveries WHEN NEW.begun IS NOT NULL BEGIN {OWED_NO_MORE}; END",
        ),
    ),
    "looks once": Mutant({**NGINX, "mode": "hybrid", "proxied": True}, {"by hand, under way": 1}, _look_once),
    "forgets what was deleted": Mutant(
        {**NGINX, "mode": "hybrid"},
        {"back up host": 1},
        triggers=(
            "AFTER INSERT ON names WHEN NEW.gone IS NOT NULL BEGIN DELETE FROM names WHERE name = NEW.name; END",
        ),
    ),
    "locks no name": Mutant(
        {**NGINX, "mode": "hybrid", "proxied": True, "required": "all", "fatal": True, "hot": 1},
        {"link": 1},
        _lock_nothing,
    ),
    "deletes what is merely not there": Mutant(
        {**NGINX, "mode": "async", "proxied": False},
        {"move folder away": 3, "kill": 4},
        triggers=(f"AFTER INSERT ON deliveries BEGIN {GONE}; END",),
        lines=(9,),
    ),
    "writes in place": Mutant({**NGINX, "mode": "hybrid", "proxied": False}, {"kill": 3}, _write_in_place),
    "says that all is well": Mutant({**NGINX, "mode": "async", "proxied": True}, OUTAGES, _say_that_all_is_well),
}
