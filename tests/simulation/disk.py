"""A media root in memory, with the face and the rules of ``resto_wsgi.master.media_root.MediaRoot``.

The disk is shared by all simulated processes; each of them has a MemoryMediaRoot on it. Every call is a step, so that
a process can die before it; what a call does, it does at once, as link, rename and unlink do. What a process staged or
kept aside, and its locks, vanish with it. ``test_simulation`` runs one suite against this and the real one, so that
the two cannot part.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from resto_wsgi.errors import MediaRootError, NameRejected
from resto_wsgi.master.media_root import Master, Publication
from resto_wsgi.master.state import State
from resto_wsgi.master.walk import Skipped
from resto_wsgi.replication.on_master import PROBE

from .kernel import Kernel, Process

__all__ = ["Disk", "Inode", "MemoryMediaRoot"]

ROOT = "/simulated"


@dataclass(frozen=True, eq=False)
class Inode:
    """One file, which is never written in place; two files are never the same one."""

    content: bytes
    mtime: float
    number: int

    @property
    def state(self) -> State:
        """What ``MediaRoot.state`` returns."""
        return State(1, self.number, len(self.content), int(self.mtime * 1e9))


@dataclass
class Disk:
    """What all processes see: names, the versions kept aside, the locks. ``locks``: how many for all names."""

    locks: int = 64
    identity: str = "simulated"
    refusals: float = 0.0  # how often the disk refuses to read or write
    away: bool = False  # it is not mounted: an empty folder is seen in its place, which nobody may write to
    files: dict[str, Inode] = field(default_factory=dict)
    kept: dict[str, tuple[Process, Inode]] = field(default_factory=dict)
    staged: dict[str, tuple[Process, Inode]] = field(default_factory=dict)
    held: dict[int, tuple[Process, object]] = field(default_factory=dict)
    inodes: int = 0

    def inode(self, content: bytes, mtime: float) -> Inode:
        self.inodes += 1
        return Inode(content, mtime, self.inodes)

    @property
    def seen(self) -> dict[str, Inode]:
        """The files that a process finds."""
        return {} if self.away else self.files

    def is_folder(self, name: str) -> bool:
        return any(other.startswith(f"{name}/") for other in self.seen)

    def forget(self, process: Process) -> None:
        """A process died: its locks are free, its room is swept."""
        self.held = {bucket: held for bucket, held in self.held.items() if held[0] is not process}
        self.kept = {path: kept for path, kept in self.kept.items() if kept[0] is not process}
        self.staged = {path: staged for path, staged in self.staged.items() if staged[0] is not process}


class MemoryStaged:
    """A file being written aside."""

    def __init__(self, media_root: MemoryMediaRoot, path: str) -> None:
        self.path = path
        self.size = 0
        self.inode: Inode | None = None
        self._media_root = media_root
        self._digest = hashlib.sha256()
        self._content = bytearray()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: Any) -> None:
        self._digest.update(data)
        self._content += data
        self.size = len(self._content)

    def seal(self) -> None:
        if self.inode is None:
            self._media_root.step("seal")
            root = self._media_root
            self.inode = root.disk.inode(bytes(self._content), root.kernel.clock())
            root.disk.staged[self.path] = (root.process, self.inode)

    def spill(self) -> None:
        pass  # it is on the disk from its beginning

    def open(self) -> BinaryIO:
        return io.BytesIO(bytes(self._content))

    def discard(self) -> None:
        self._media_root.step("discard")
        self._media_root.disk.staged.pop(self.path, None)


class MemoryMediaRoot:
    """One process's view of the disk."""

    root = ROOT

    def __init__(self, disk: Disk, kernel: Kernel, process: Process) -> None:
        self.disk = disk
        self.kernel = kernel
        self.process = process
        self._staged = 0

    def step(self, label: str, *, may_fail: str = "") -> None:
        """Let others go on; then perhaps fail, where the disk refuses: ``may_fail`` is the action and the name."""
        self.kernel.step(f"disk: {label}")
        if may_fail and self._refuses():
            self.kernel.note(f"disk: refuses: {label}")
            action, _, name = may_fail.partition(" ")
            raise MediaRootError(action, name, OSError(errno.EIO, "Input/output error"))

    def _refuses(self) -> bool:
        return self.disk.refusals > 0.0 and self.kernel.chance.random() < self.disk.refusals

    def _write(self, label: str, action: str, name: str) -> None:
        """The step of a call that needs a folder that is ours."""
        self.step(label, may_fail=f"{action} {name}")
        if self.disk.away:
            raise MediaRootError(action, name, OSError(errno.EACCES, "Permission denied"))

    # Reading

    @property
    def identity(self) -> str:
        return self.disk.identity

    def check_here(self) -> None:
        self.step("check_here")
        if self.disk.away:
            raise MediaRootError("find", ".resto/id", OSError(errno.ENOENT, "it is gone"))

    def path(self, name: str) -> str:
        return f"{ROOT}/{name}"

    def open(self, name: str) -> Master:
        self.step(f"open {name}", may_fail=f"read {name}")
        inode = self._inode(name)
        return Master(file=io.BytesIO(inode.content), size=len(inode.content), mtime=inode.mtime, state=inode.state)

    def state(self, name: str) -> State | None:
        self.step(f"state {name}", may_fail=f"read {name}")
        inode = self.disk.seen.get(name)
        return None if inode is None else inode.state

    def is_still(self, name: str, state: State | None) -> bool:
        return self.state(name) == state

    def size(self, name: str) -> int:
        self.step(f"size {name}")
        return len(self._inode(name).content)

    def exists(self, name: str) -> bool:
        self.step(f"exists {name}")
        return name in self.disk.seen

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        self.step(f"listdir {folder}")
        prefix = f"{folder}/" if folder else ""
        if folder and not self.disk.is_folder(folder):
            raise (NotADirectoryError if folder in self.disk.seen else FileNotFoundError)(folder)
        below = [name.removeprefix(prefix) for name in self.disk.seen if name.startswith(prefix)]
        folders = {rest.partition("/")[0] for rest in below if "/" in rest}
        return sorted(folders), sorted(rest for rest in below if "/" not in rest)

    def names(self, skipped: Callable[[Skipped], None] = lambda skipped: None, *, folder: str = "") -> Iterator[str]:
        self.step("names")
        for name in sorted(self.disk.seen):
            if name in self.disk.seen and (not folder or name.startswith(f"{folder}/")):
                yield name
                self.step("names")

    # Writing

    def stage(self, hold: int = 0, *, near: str = "", digest: bool = True) -> MemoryStaged:
        self._write("stage", "stage", "an upload")
        self._staged += 1
        return MemoryStaged(self, f"{ROOT}/.resto/staging/{self.process.label}/{self._staged}")

    def publish(self, staged: MemoryStaged, name: str) -> Publication:
        self._write(f"publish {name}", "save", name)
        self._check_folders(name)
        if name in self.disk.seen or self.disk.is_folder(name):
            raise FileExistsError(errno.EEXIST, "File exists", name)
        return self._put(staged, name, None)

    def replace(self, staged: MemoryStaged, name: str, *, keep: bool = True) -> Publication:
        assert keep, "only a media server does without"
        self._write(f"replace {name}", "save", name)
        self._check_folders(name)
        if self.disk.is_folder(name):
            raise NameRejected(name, "is a folder in MEDIA_ROOT")
        before = self.disk.seen.get(name)
        kept = None
        if before is not None:
            kept = f"{staged.path}.previous"
            self.disk.kept[kept] = (self.process, before)
            self._write(f"replace {name}: the previous version is kept", "save", name)
        return self._put(staged, name, kept)

    def make_durable(self, publication: Publication) -> None:
        self._write(f"make_durable {publication.name}", "save", publication.name)

    def sha256(self, name: str) -> str:
        self.step(f"sha256 {name}", may_fail=f"read {name}")
        return hashlib.sha256(self._inode(name).content).hexdigest()

    def is_published(self, publication: Publication) -> bool:
        self.step(f"is_published {publication.name}")
        return self.disk.seen.get(publication.name) is publication.status

    def keeps_previous(self, publication: Publication) -> bool:
        self.step(f"keeps_previous {publication.name}")
        return not self.disk.away and publication.previous in self.disk.kept

    def is_staged(self, name: str) -> bool:
        self.step(f"is_staged {name}")
        inode = self.disk.seen.get(name)
        return any(staged is inode for _, staged in self.disk.staged.values())

    def take_back(self, publication: Publication) -> bool:
        name = publication.name
        self.step(f"take_back {name}")
        if self.disk.seen.get(name) is not publication.status:
            self._drop_from_those_who_replaced(publication)
            return False
        self.step(f"take_back {name}: it is still this one")
        if self.disk.away:
            raise MediaRootError("withdraw", name, OSError(errno.ENOENT, "it is gone"))
        kept = None if publication.previous is None else self.disk.kept.pop(publication.previous, None)
        if kept is None:
            self.disk.files.pop(name, None)
        else:
            self.disk.files[name] = kept[1]
        return True

    def _drop_from_those_who_replaced(self, publication: Publication) -> None:
        if self.disk.away:
            return
        before = None if publication.previous is None else self.disk.kept.get(publication.previous)
        for path, (owner, inode) in list(self.disk.kept.items()):
            if inode is publication.status:
                del self.disk.kept[path]
                if before is not None:
                    self.disk.kept[path] = (owner, before[1])

    def forget(self, publication: Publication) -> None:
        self.step(f"forget {publication.name}")
        if publication.previous is not None and not self.disk.away:
            self.disk.kept.pop(publication.previous, None)

    def check_no_folder(self, name: str) -> None:
        self.step(f"check_no_folder {name}")
        if self.disk.is_folder(name):
            raise NameRejected(name, "is a folder in MEDIA_ROOT; only files are deleted")

    def remove(self, name: str) -> bool:
        self.step(f"remove {name}", may_fail=f"delete {name}")
        if self.disk.is_folder(name):
            raise NameRejected(name, "is a folder in MEDIA_ROOT; only files are deleted")
        return self.disk.seen.pop(name, None) is not None

    def drop(self, name: str) -> None:
        self.step(f"drop {name}")
        self.disk.seen.pop(name, None)

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold a name; two names may share a lock, and nobody may take one twice, as with flock."""
        bucket = zlib.crc32(name.encode()) % self.disk.locks
        if name.startswith(PROBE):  # waited for while other names are held; the real locks are far too many to collide
            bucket += self.disk.locks
        self._write(f"lock {name}", "lock", name)
        if bucket in self.disk.held:
            if not wait:
                yield False
                return
            self.kernel.wait_until(lambda: bucket not in self.disk.held, f"disk: waits for the lock of {name}")
        held = (self.process, object())
        self.disk.held[bucket] = held
        try:
            yield True
        finally:
            if self.disk.held.get(bucket) is held:  # else this process is dead and its locks are free
                del self.disk.held[bucket]

    def sweep(self) -> None:
        self.step("sweep")

    def close(self) -> None:
        self.step("close")

    def _inode(self, name: str) -> Inode:
        if name not in self.disk.seen:
            raise FileNotFoundError(errno.ENOENT, "not in MEDIA_ROOT", name)
        return self.disk.seen[name]

    def _check_folders(self, name: str) -> None:
        parts = name.split("/")[:-1]
        if any("/".join(parts[: depth + 1]) in self.disk.seen for depth in range(len(parts))):
            raise NameRejected(name, "a folder of it is a file in MEDIA_ROOT")

    def _put(self, staged: MemoryStaged, name: str, kept: str | None) -> Publication:
        assert staged.inode is not None, "published before it was sealed"
        self.disk.files[name] = staged.inode
        return Publication(name, staged, staged.inode, kept)  # type: ignore[arg-type]
