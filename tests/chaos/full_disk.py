"""Full disks: the master, the outbox, both together, and a host, each on a small tmpfs that is filled and emptied.

    scene             on the tmpfs             what a save raises while it is full
    master            MEDIA_ROOT               MediaRootError, full; 507 to a client of the middleware
    outbox            the outbox               OutboxError, full; 507
    master, outbox    both, as by default      one of the two; 507
    host              one host's whole folder  ReplicationError, whose DeliveryError for it has status 500 or 507

First each error is looked for by itself, and that an outbox without space takes deletes; then threads save and delete
while the disk is filled and emptied at random. With space again all must converge.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from webob import Request

from resto_wsgi import MediaRootError, OutboxError, ReplicationError, Replicator, UploadMiddleware

from . import aftermath, bodies
from .disks import Disk
from .judge import judge, owed
from .ledger import Effect, Ledger
from .report import Figures
from .rig import Nginx

__all__ = ["run"]

SCENES = ("master", "outbox", "master, outbox", "host")
HOSTS = 3
DISK = {"master": 4096, "outbox": 8192, "master, outbox": 10240, "host": 4096}  # KiB; an outbox has 4096 from its start
STORM = 3.0  # seconds
WRITERS = 3
NAMES = 6
ERRORS: dict[str, tuple[type[Exception], ...]] = {
    "master": (MediaRootError,),
    "outbox": (OutboxError,),
    "master, outbox": (MediaRootError, OutboxError),
}
SIZES = (0, 100, 5_000, 50_000, 300_000)  # bytes
TRIES = 300  # saves until a full disk must have been noticed: the outbox can go on for a while in what it has
TIMEOUT = 2  # seconds without progress


def run(folder: str, *, seed: int, own_mounts: bool) -> Figures:
    """Play all scenes at once, each with servers of its own. Keeps its files in ``folder``."""
    begun = time.monotonic()
    figures = Figures("full disk", seed)
    if not own_mounts:
        figures.skipped = "no tmpfs may be mounted in a mount namespace of its own (unshare --mount); be root"
        return figures
    with ThreadPoolExecutor(len(SCENES)) as pool:
        scenes = list(pool.map(lambda kind: _play(kind, os.path.join(folder, kind.replace(", ", "-")), seed), SCENES))
    for each in scenes:
        for name in ("operations", "acknowledged", "refused", "unanswered", "lost", "resurrected", "torn", "unsent"):
            setattr(figures, name, getattr(figures, name) + getattr(each, name))
        figures.left_over += each.left_over
        figures.owed += each.owed
        figures.faults |= each.faults
        figures.problems += [f"{each.part}: {problem}" for problem in each.problems]
    seconds = [each.converged for each in scenes]
    figures.converged = None if None in seconds else max(filter(None, seconds), default=0.0)
    figures.took = time.monotonic() - begun
    return figures


def _play(kind: str, folder: str, seed: int) -> Figures:
    figures = Figures(kind, seed)
    try:
        with _Scene(kind, folder, seed, figures) as scene:
            scene.look_for_errors()
            scene.storm()
            scene.see_it_converge()
    except Exception as error:
        figures.problems.append(f"{type(error).__name__}: {error}")
    return figures


class _Scene:
    """One full disk, three hosts, and a replicator with a worker in this process."""

    def __init__(self, kind: str, folder: str, seed: int, figures: Figures) -> None:
        self._kind = kind
        self._figures = figures
        self._chance = random.Random(f"{seed} {kind}")
        self._ledger = Ledger(f"d{seed}")
        self._stack = contextlib.ExitStack()
        self._folder = folder
        self._over = threading.Event()

    def __enter__(self) -> _Scene:
        os.makedirs(self._folder)
        small = os.path.join(self._folder, "small")
        self._disk = Disk(small, DISK[self._kind])
        large = os.path.join(self._folder, "large")
        self._master = os.path.join(small if "master" in self._kind else large, "media")
        outbox = os.path.join(small if "outbox" in self._kind else large, "outbox")
        os.makedirs(outbox)
        self._outbox = os.path.join(outbox, "outbox.sqlite3")
        places = [os.path.join(large, f"host-{number}") for number in range(HOSTS)]
        if self._kind == "host":
            places[0] = os.path.join(small, "host-0")
        with contextlib.ExitStack() as stack:
            self._hosts = [stack.enter_context(Nginx(place)) for place in places]
            self._replicator = stack.enter_context(self._replicas("majority"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look_for_errors(self) -> None:
        """Fill the disk, and see that each caller is told what is promised, and that what was there stays."""
        for number in range(NAMES):
            self._save(self._replicator, _name(number), 1000)
        self._disk.fill()
        if self._kind == "host":
            with self._replicas("all") as strict:
                self._expect(ReplicationError, lambda: self._save(strict, _name(0), 100_000))
            self._note(self._save(self._replicator, _name(1), 100_000) is None, "a save that a majority took raises")
        else:
            chance = self._chance
            if "outbox" in self._kind:
                self._hosts[0].stop()  # what it misses stays owed, and so an outbox that is full needs more room
            self._expect(ERRORS[self._kind], lambda: self._save(self._replicator, _name(chance.randrange(100)), 1000))
            self._expect_507()
            if "outbox" in self._kind:
                self._expect_deletes()
                self._hosts[0].start()
        self._disk.empty()
        self._note(self._save(self._replicator, _name(2), 1000) is None, "a save raises although there is space again")

    def storm(self) -> None:
        """Save and delete from threads, while the disk is filled and emptied."""
        threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        ends, full = time.monotonic() + STORM, 0
        while time.monotonic() < ends:
            self._disk.fill()
            full += 1
            time.sleep(self._chance.uniform(0.05, 0.3))
            self._disk.empty()
            time.sleep(self._chance.uniform(0.05, 0.3))
        self._over.set()
        for thread in threads:
            thread.join(30)
            self._note(not thread.is_alive(), "a save hangs")
        self._figures.faults[f"full: {self._kind}"] = full + 1

    def see_it_converge(self) -> None:
        after = aftermath.wait_for_it(
            time.monotonic(),
            lambda: owed(self._outbox),
            lambda: judge(self._ledger, self._master, {host.url: host.root for host in self._hosts}, self._outbox),
            lambda: None,
        )
        outcomes = self._ledger.outcomes
        self._figures.operations = sum(outcomes.values())
        self._figures.acknowledged = outcomes[Effect.DONE.value]
        self._figures.refused = outcomes[Effect.NONE.value]
        self._figures.unanswered = outcomes[Effect.PERHAPS.value]
        self._figures.converged = after.seconds
        self._figures.take(after.verdict)

    def _replicas(self, required: str) -> Replicator:
        return Replicator(
            media_root=self._master,
            media_hosts=[host.url for host in self._hosts],
            outbox=self._outbox,
            required=required,
            timeout=TIMEOUT,
        )

    def _save(self, replicator: Replicator, name: str, size: int) -> Exception | None:
        """Save; return what was raised. A refusal leaves nothing."""
        value = self._ledger.new_value()
        operation = self._ledger.begin(name, value)
        try:
            replicator.save(name, bodies.make(value, size), overwrite=True)
        except (MediaRootError, OutboxError, ReplicationError) as error:
            self._ledger.end(operation, Effect.NONE)
            return error
        self._ledger.end(operation, Effect.DONE)
        return None

    def _delete(self, name: str) -> Exception | None:
        """Delete; return what was raised. If that is refused it may have been done all the same."""
        operation = self._ledger.begin(name, None)
        try:
            self._replicator.delete(name)
        except ReplicationError as error:
            self._ledger.end(operation, Effect.DONE)
            return error
        except (MediaRootError, OutboxError) as error:
            self._ledger.end(operation, Effect.PERHAPS)
            return error
        self._ledger.end(operation, Effect.DONE)
        return None

    def _write(self, number: int) -> None:
        chance = random.Random(f"{self._figures.seed} {self._kind} {number}")
        while not self._over.is_set():
            name = _name(chance.randrange(NAMES))
            try:
                if chance.random() < 0.75:
                    self._save(self._replicator, name, chance.choice(SIZES))
                else:
                    self._delete(name)
            except Exception as error:
                self._figures.problems.append(f"raised and not promised: {type(error).__name__}: {error}")
                return

    def _expect(self, kinds: Any, save: Callable[[], Exception | None]) -> None:
        """See that a save raises one of these, and says that the disk is full; the first that does will do."""
        for error in self._errors(save):
            if isinstance(error, ReplicationError):
                statuses = {failure.status for failure in error.failures.values()}
                told = isinstance(error, kinds) and statuses <= {500, 507}
            else:
                told = isinstance(error, kinds) and bool(getattr(error, "full", False))
            self._note(told, f"a save raises {type(error).__name__}, which does not say that the disk is full: {error}")
            return
        self._note(False, f"{TRIES} saves to a full disk raise nothing")

    def _expect_507(self) -> None:
        """See what a client of the middleware is told."""
        view = UploadMiddleware(_accept, self._replicator, publish="on_success")
        for _ in range(TRIES):
            value = self._ledger.new_value()
            operation = self._ledger.begin(None, value)
            upload = ("upload.bin", bodies.make(value, 1000))
            answer = Request.blank("/", POST={"file": upload}).get_response(view)
            if answer.status_int != 200:
                self._ledger.end(operation, Effect.NONE)
                self._note(answer.status_int == 507, f"the middleware answers {answer.status}")
                return
            self._ledger.end(operation, Effect.DONE, name=answer.headers["X-Name"])
        self._note(False, f"{TRIES} uploads to a full disk are taken")

    def _expect_deletes(self) -> None:
        """See that whoever wants to make room can: the outbox keeps some for that."""
        for number in range(NAMES):
            error = self._delete(_name(number))
            self._note(not isinstance(error, OutboxError), f"a delete raises on a full disk: {error}")

    def _errors(self, save: Callable[[], Exception | None]) -> Iterator[Exception]:
        for _ in range(TRIES):
            if error := save():
                yield error

    def _note(self, well: bool, problem: str) -> None:
        if not well:
            self._figures.problems.append(problem)


def _accept(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-Name", environ["resto.uploads"][0].name), ("Content-Length", "0")])
    return []


def _name(number: int) -> str:
    return f"files/{number}.bin"
