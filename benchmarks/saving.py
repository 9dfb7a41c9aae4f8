"""Small files, saved on the master and on every host, one after the other, as an application in one thread does it."""

from __future__ import annotations

import io
import os
from typing import Any

from .clock import Clock
from .payload import payload
from .rows import DJANGO_RESTO, OURS, Figures, Line, Place, Reach, Row, rate, wrong_copies
from .scale import Scale

__all__ = ["SIZE", "WARM_UP", "SaveRow", "name_of", "rows"]

SIZE = 10 * 1024
WARM_UP = 5  # files: a process that serves requests has its connections already, where it keeps them


class SaveRow(Row):
    def __init__(self, scale: Scale, hosts: int, *, fsync: bool, reach: float | None, raw: float | None = None) -> None:
        super().__init__(scale)
        self.hosts, self.fsync = hosts, fsync
        self.count = scale.saves[hosts]
        self.key = f"save-{hosts}" + ("-durable" if fsync else "")
        servers = "1 host" if hosts == 1 else f"{hosts} hosts"
        self.title = f"save 10 KiB to {servers}, {'all durable settings on' if fsync else 'fsync=False'}"
        raw_too = "" if raw is None else ", and the raw loop nothing but a local copy, all requests, then all replies"
        self.says = (
            f"{self.count} files of 10 KiB in memory, saved one after the other on the master and on {servers} of this "
            f"machine; not many savers at once and no network, and django-resto has no outbox, hash or fsync{raw_too}."
        )
        self.calls = {OURS: f"{__name__}:ours", DJANGO_RESTO: f"{__name__}:django_resto"}
        self.lines = [Line(DJANGO_RESTO, rate, "files/s", None if reach is None else Reach(">=", reach))]
        if raw is not None:
            self.calls["raw sockets"] = f"{__name__}:raw_sockets"
            self.lines.append(Line("raw sockets", rate, "files/s", Reach(">=", raw)))

    def arguments(self, side: str, place: Place, folder: str) -> dict[str, Any]:
        fsync = {"fsync": self.fsync} if side == OURS else {}
        root = os.path.join(folder, "master")
        return {"root": root, "hosts": place.hosts(self.hosts), "count": self.count, **fsync}

    def problems(self, side: str, figures: Figures, place: Place, folder: str) -> list[str]:
        numbers = {name_of(number): number for number in range(-WARM_UP, self.count)}

        def is_right(name: str, path: str) -> bool:
            with open(path, "rb") as file:
                return file.read() == payload(numbers[name], SIZE)

        return wrong_copies(place, self.hosts, list(numbers), is_right)


def rows(scale: Scale) -> list[Row]:
    made: list[Row] = [
        SaveRow(scale, 12, fsync=True, reach=2.5),
        SaveRow(scale, 12, fsync=False, reach=3.0, raw=0.6),
        SaveRow(scale, 3, fsync=False, reach=2.0),
        SaveRow(scale, 1, fsync=False, reach=1.2),
    ]
    if scale.extras:
        made += [SaveRow(scale, hosts, fsync=True, reach=None) for hosts in (3, 1)]
    return made


# The sides, each in a process of its own


def ours(root: str, hosts: list[str], count: int, fsync: bool) -> dict[str, Any]:
    from resto_wsgi.replicator import Replicator

    os.makedirs(root)
    bodies = _bodies(count)
    with Replicator(media_root=root, media_url="/media/", media_hosts=hosts, fsync=fsync) as replicator:
        for number in range(-WARM_UP, 0):
            replicator.save(name_of(number), io.BytesIO(bodies[number]))
        with Clock() as clock:
            for number in range(count):
                replicator.save(name_of(number), io.BytesIO(bodies[number]))
    return clock.figures(count)


def django_resto(root: str, hosts: list[str], count: int) -> dict[str, Any]:
    from .django_resto_peer import hybrid_storage

    storage = hybrid_storage(root, hosts)
    from django.core.files.base import ContentFile

    bodies = _bodies(count)
    for number in range(-WARM_UP, 0):
        storage.save(name_of(number), ContentFile(bodies[number]))
    with Clock() as clock:
        for number in range(count):
            storage.save(name_of(number), ContentFile(bodies[number]))
    return clock.figures(count)


def raw_sockets(root: str, hosts: list[str], count: int) -> dict[str, Any]:
    from .raw import Connection, put_all

    os.makedirs(os.path.join(root, "bench"))
    bodies = _bodies(count)
    connections = [Connection(host) for host in hosts]

    def save(number: int) -> None:
        with open(os.path.join(root, name_of(number)), "xb", buffering=0) as file:
            file.write(bodies[number])
        put_all(connections, f"/media/{name_of(number)}", bodies[number])

    for number in range(-WARM_UP, 0):
        save(number)
    with Clock() as clock:
        for number in range(count):
            save(number)
    return clock.figures(count)


def name_of(number: int) -> str:
    return f"bench/{'warm' if number < 0 else 'file'}-{abs(number):05}.bin"


def _bodies(count: int) -> dict[int, bytes]:
    return {number: payload(number, SIZE) for number in range(-WARM_UP, count)}
