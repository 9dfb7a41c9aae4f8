"""What is owed after an outage, delivered to one host."""

from __future__ import annotations

import os
from typing import Any

from .clock import Clock
from .payload import payload
from .rows import OURS, Figures, Line, Place, Reach, Row, rate, wrong_copies
from .scale import Scale

__all__ = ["DrainRow", "rows"]

RAW = "raw PUT loop"
SIZE = 1024
TIME_UP = 120.0  # seconds


class DrainRow(Row):
    key = "drain"
    hosts = 1
    lines = (Line(RAW, rate, "files/s", Reach(">=", 0.7)),)

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.title = f"drain {scale.owed:,} owed deliveries of 1 KiB to one host"
        self.says = (
            "Names of the master that are owed to one host are delivered and settled by drain(), all durable settings "
            "on; not how they came to be owed, and the raw loop, which reads each file, sends it on one connection and "
            "waits for the reply, keeps no account."
        )
        self.calls = {OURS: f"{__name__}:ours", RAW: f"{__name__}:raw_loop"}

    def prepare(self, place: Place, folder: str) -> None:
        self._root = os.path.join(folder, "master")
        for number in range(self.scale.owed):
            path = os.path.join(self._root, _name(number))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(payload(number, SIZE))

    def arguments(self, side: str, place: Place, folder: str) -> dict[str, Any]:
        outbox = {"outbox": os.path.join(folder, "outbox.sqlite3")} if side == OURS else {}
        return {"root": self._root, "host": place.hosts(1)[0], "count": self.scale.owed, **outbox}

    def problems(self, side: str, figures: Figures, place: Place, folder: str) -> list[str]:
        numbers = {_name(number): number for number in range(self.scale.owed)}

        def is_right(name: str, path: str) -> bool:
            with open(path, "rb") as file:
                return file.read() == payload(numbers[name], SIZE)

        return wrong_copies(place, 1, list(numbers), is_right)


def rows(scale: Scale) -> list[Row]:
    return [DrainRow(scale)]


def _name(number: int) -> str:
    return f"owed/{number % 100:02}/{number:05}.bin"


def ours(root: str, host: str, count: int, outbox: str) -> dict[str, Any]:
    from resto_wsgi.replicator import Replicator

    keywords: dict[str, Any] = {"media_root": root, "media_url": "/media/", "media_hosts": [host]}
    with Replicator(**keywords, outbox=outbox, background=False) as replicator:
        owed = replicator.sync(host)  # owes the host every name of the master
        if owed != count:
            raise ValueError(f"{owed} are owed, not {count}")
        with Clock() as clock:
            drained = replicator.drain(TIME_UP)
        if not drained:
            raise ValueError(f"not drained within {TIME_UP:g} s: {replicator.status()}")
    return clock.figures(count)


def raw_loop(root: str, host: str, count: int) -> dict[str, Any]:
    from .raw import Connection, put_all

    connections = [Connection(host)]
    with Clock() as clock:
        for number in range(count):
            with open(os.path.join(root, _name(number)), "rb", buffering=0) as file:
                put_all(connections, f"/media/{_name(number)}", file.read())
    return clock.figures(count)
