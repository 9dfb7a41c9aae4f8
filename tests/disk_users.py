"""The disk engine as its two users call it: an application by its Replicator, and our own media server by its Store.

Both have one face here, so that one contract can be held against both. A script imports this too, to be killed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.media_server.files.store import Store

__all__ = ["USERS", "Application", "Node", "User"]


class User(Protocol):
    """Somebody who keeps files under ``media_root``; all but ``read`` raise what the engine raises."""

    media_root: MediaRoot

    def save(self, name: str, content: bytes) -> None:
        """Give a name these bytes, whatever it has."""

    def delete(self, name: str) -> bool:
        """Remove a name; return whether it was there."""

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a name, None if it has none that are to be read."""

    def close(self) -> None:
        """Leave nothing aside."""


class Application:
    """As ``replication.publisher`` does, but for the hosts."""

    def __init__(self, root: str, linked: Collection[str] = ()) -> None:
        self.media_root = MediaRoot(root, linked=linked)

    def save(self, name: str, content: bytes) -> None:
        root = self.media_root
        staged = root.stage(near=name)
        try:
            staged.write(content)
            staged.seal()
            with root.lock(name):
                root.check_here()
                publication = root.replace(staged, name)
                try:
                    root.make_durable(publication)
                except MediaRootError:
                    root.take_back(publication)
                    raise
                root.forget(publication)
        finally:
            staged.discard()

    def delete(self, name: str) -> bool:
        with self.media_root.lock(name):
            self.media_root.check_here()
            return self.media_root.remove(name)

    def read(self, name: str) -> bytes | None:
        try:
            with self.media_root.open(name).file as file:
                return file.read()
        except (FileNotFoundError, MediaRootError):
            return None

    def close(self) -> None:
        self.media_root.close()


class Node:
    """As ``media_server.node`` does, but for HTTP."""

    def __init__(self, root: str, linked: Collection[str] = ()) -> None:
        self._store = Store(root, linked)
        self.media_root = self._store.media_root

    def save(self, name: str, content: bytes) -> None:
        with self._store.stage(name) as staged:
            staged.write(content)
            staged.seal(None, generation=len(content))
            with self._store.change(name) as change:
                change.publish(staged)

    def delete(self, name: str) -> bool:
        with self._store.change(name) as change:
            return change.delete()

    def read(self, name: str) -> bytes | None:
        try:
            master = self._store.open(name)
        except MediaRootError:
            return None
        if master is None:
            return None
        with master.file as file:
            return file.read()

    def close(self) -> None:
        self._store.close()


USERS = {"application": Application, "node": Node}
