"""Uploads over HTTP to gunicorn, as a site serves them, and from there to three hosts."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from .load import body
from .payload import files_under
from .process import Failed, run_child, started, tail
from .rows import DJANGO_RESTO, OURS, Figures, Line, Place, Reach, Row, cpu, rate
from .scale import Scale

__all__ = ["EndToEndRow", "rows"]

HOSTS = 3
WORKERS, THREADS = 2, 16  # a worker for each processor, and a thread for each of 32 clients
REACHED_AT = 8  # clients


def _p99(figures: Figures) -> float:
    return float(figures["p99"])


class EndToEndRow(Row):
    hosts = HOSTS

    def __init__(self, scale: Scale, clients: int, size: int, *, fsync: bool) -> None:
        super().__init__(scale)
        self._clients, self._size, self._fsync = clients, size, fsync
        megabytes = size // 1024**2
        file = f"{megabytes} MiB" if megabytes else f"{size // 1024} KiB"
        self.key = f"serve-{clients}-{file.replace(' ', '')}" + ("" if fsync else "-no-fsync")
        self.title = f"gunicorn, 3 hosts, {clients} client{'s' * (clients > 1)}, {file}" + (
            "" if fsync else ", fsync=False"
        )
        durable = "all durable settings on" if fsync else "fsync=False"
        self.says = (
            f"Requests/s and the 99th percentile of gunicorn gthread with {WORKERS} workers of {THREADS} threads, "
            f"{durable}, and one Flask view that answers the names that the middleware gave, or those of "
            "django-resto's HybridStorage, with which it saves request.files and which calls no fsync; no network, and "
            "clients, server and hosts share the processors of this machine; CPU is gunicorn's for 1,000 requests."
        )
        self.calls = {OURS: "ours", DJANGO_RESTO: "django_resto"}
        faster = Reach(">=", 2.0) if clients == REACHED_AT else None
        self.lines = [
            Line(DJANGO_RESTO, rate, "requests/s", faster),
            Line(DJANGO_RESTO, _p99, "ms p99", Reach("<=", 1.0)),
            Line(DJANGO_RESTO, cpu, "s CPU for 1,000"),
        ]

    def run(self, side: str, place: Place, folder: str, *, profile: bool = False) -> dict[str, Any]:
        with self._gunicorn(side, place, folder) as (port, pid):
            arguments = {"port": port, "clients": self._clients, "size": self._size, "seconds": self.scale.serving}
            try:
                return run_child("benchmarks.load:run", {**arguments, "server": pid}, folder)
            except Failed as error:
                raise Failed(f"{error}\ngunicorn: {tail(_log(folder))}") from None

    def problems(self, side: str, figures: Figures, place: Place, folder: str) -> list[str]:
        wanted = body(self._size)
        problems = []
        everywhere = {"the master": files_under(os.path.join(folder, "master"))}
        everywhere |= {f"host {number}": found for number, found in enumerate(place.replicas(HOSTS))}
        for where, found in everywhere.items():
            if len(found) != figures["sent"]:
                problems.append(f"{where} has {len(found)} files, and {figures['sent']} were acknowledged")
            wrong = [name for name, path in found.items() if not _holds(path, wanted)]
            problems += [f"{where}: wrong bytes in {len(wrong)} files, such as {wrong[0]}"] if wrong else []
        return problems

    @contextlib.contextmanager
    def _gunicorn(self, side: str, place: Place, folder: str) -> Iterator[tuple[int, int]]:
        root = os.path.join(folder, "master")
        os.makedirs(root)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            # As gunicorn does where it binds by itself; else each answer waits 40 ms for the client's delayed ACK.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.listen(128)
            settings = {"ROOT": root, "HOSTS": ",".join(place.hosts(HOSTS)), "FSYNC": str(self._fsync)}
            command = [sys.executable, "-m", "gunicorn", f"benchmarks.end_to_end_app:{self.calls[side]}()"]
            command += ["-b", f"fd://{listener.fileno()}", "-k", "gthread", "--keep-alive", "60"]
            command += ["-w", str(WORKERS), "--threads", str(THREADS), "--log-level", "warning", "--no-control-socket"]
            for key, value in settings.items():
                command += ["-e", f"{key}={value}"]
            with started(command, folder, _log(folder), pass_fds=[listener.fileno()]) as process:
                yield listener.getsockname()[1], process.pid


def rows(scale: Scale) -> list[Row]:
    both = [
        (clients, fsync) for clients in scale.clients for fsync in ((True, False) if clients == REACHED_AT else (True,))
    ]
    return [EndToEndRow(scale, clients, size, fsync=fsync) for size in scale.bodies for clients, fsync in both]


def _log(folder: str) -> str:
    return os.path.join(folder, "gunicorn.log")


def _holds(path: str, wanted: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read() == wanted
