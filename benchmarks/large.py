"""One large file that the master has, sent to three hosts."""

from __future__ import annotations

import os
from typing import Any

from .clock import Clock
from .payload import BLOCK, blocks, digest, digest_of_file
from .rows import DJANGO_RESTO, OURS, Figures, Line, Place, Reach, Row, cpu, rss, seconds, wrong_copies
from .scale import Scale

__all__ = ["LargeRow", "rows"]

HOSTS = 3
NAME = "film.bin"
TIMEOUT = 30.0  # seconds, instead of 2 on both sides: this is no race against a disk that is busy


class LargeRow(Row):
    key = "large"
    hosts = HOSTS
    lines = (
        Line(DJANGO_RESTO, cpu, "s CPU", Reach("<=", 0.15)),
        Line("raw sendfile", seconds, "s", Reach("<=", 1.15)),
        Line("", rss, "MiB RSS", Reach("<=", 48), how="alone"),
        Line(DJANGO_RESTO, seconds, "s"),
        Line("raw sendfile", cpu, "s CPU"),
    )

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.title = f"replicate a {scale.large // BLOCK} MiB file to 3 hosts"
        self.says = (
            "A file that is staged already, and on the disk, is published and sent to 3 hosts, fsync=False; not its "
            "way to the master, its hash or its fsync, which the peers lack, and not apart from nginx, which writes it "
            "to the same disk."
        )
        self.calls = {side: f"{__name__}:{name}" for side, name in _SIDES.items()}

    def prepare(self, place: Place, folder: str) -> None:
        self._source = os.path.join(folder, NAME)
        with open(self._source, "wb") as file:
            file.writelines(blocks(self.scale.large))
        self._digest = digest(blocks(self.scale.large))

    def arguments(self, side: str, place: Place, folder: str) -> dict[str, Any]:
        root = {"root": os.path.join(folder, "master")} if side == OURS else {}
        return {"source": self._source, "hosts": place.hosts(HOSTS), **root}

    def problems(self, side: str, figures: Figures, place: Place, folder: str) -> list[str]:
        def is_right(name: str, path: str) -> bool:
            with open(path, "rb") as file:
                return digest_of_file(file) == self._digest

        return wrong_copies(place, HOSTS, [NAME], is_right)


def rows(scale: Scale) -> list[Row]:
    return [LargeRow(scale)]


_SIDES = {OURS: "ours", DJANGO_RESTO: "django_resto", "raw sendfile": "raw_sendfile"}


def ours(source: str, hosts: list[str], root: str) -> dict[str, Any]:
    from resto_wsgi.replicator import Replicator

    os.makedirs(root)
    keywords: dict[str, Any] = {"media_root": root, "media_url": "/media/", "media_hosts": hosts}
    with Replicator(**keywords, fsync=False, timeout=TIMEOUT) as replicator:
        staged = replicator.stage()
        with open(source, "rb", buffering=0) as file:
            while block := file.read(BLOCK):
                staged.write(block)
        with staged.open() as file:  # the peers' file is there; ours is not to be written back while nginx writes
            os.fsync(file.fileno())
        with Clock() as clock:
            _, publication = replicator.publish(staged, NAME)
        replicator.keep(publication)
        staged.discard()
    return clock.figures()


def django_resto(source: str, hosts: list[str]) -> dict[str, Any]:
    from .django_resto_peer import hybrid_storage

    storage = hybrid_storage(os.path.dirname(source), hosts, TIMEOUT)
    with Clock() as clock:
        storage.execute(storage.upload, NAME)
    return clock.figures()


def raw_sendfile(source: str, hosts: list[str]) -> dict[str, Any]:
    from .raw import Connection, send_file

    with open(source, "rb", buffering=0) as file, Clock() as clock:
        send_file([Connection(host) for host in hosts], f"/media/{NAME}", file.fileno(), os.path.getsize(source))
    return clock.figures()
