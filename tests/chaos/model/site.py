"""What one history runs on: a media root, its hosts, two writers and a worker, and what is out of order there just now.

Operations are handed to processes and not waited for, so that they overlap; ``faults`` breaks things and notes here
what is broken. Everything that a history starts, mounts or makes is in one folder, and ``close`` ends and unmounts it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

from .. import bodies
from ..disks import Disk, show
from ..ledger import Effect
from ..rig import wait_until
from .belief import AWAY, FULL, Belief
from .machines import Host, Server, make_hosts
from .plan import Step
from .processes import Answer, Process
from .setup import Setup

__all__ = ["PASSED_BY", "Site"]

PASSED_BY = "passed by"  # what a step says that does not fit the moment
READY_WITHIN = 1.0  # seconds that a step waits for a process that is busy
QUIET_WITHIN = 5.0  # seconds that a look waits for operations under way
END_WITHIN = 180.0  # seconds until every operation must have ended, with everything in order again
ORDER_WITHIN = 20.0  # seconds that an operator waits for an order to be taken
DISK = 96 * 1024  # KiB: three times what a history of large files was seen to store; only the filler is to fill it


class Site:
    """The site of a history in ``folder``."""

    def __init__(self, setup: Setup, folder: str, belief: Belief) -> None:
        self.setup = setup
        self.folder = folder
        self.belief = belief
        self.disks: dict[str, Disk] = {}
        self.hidden: set[str] = set()  # folders that something empty is mounted on
        self.away: set[str] = set()  # folders of the media root that are not there
        self.unsynced: dict[int, str] = {}  # hosts that lost files, and why; until an operator has them filled
        self.left_out: set[int] = set()  # hosts that are not configured
        self.mute: dict[str, str] = {}  # what stays broken while all else is judged, by a path: why
        self.by_hand: set[str] = set()  # names that somebody has put into the media root
        self.seen: set[tuple[str, str]] = set()  # what was on which server, of names that nobody takes away
        self.ended: list[str] = []  # what was wrong with processes that were ended in order
        self._make_disks()
        self.media = os.path.join(self.disks["master"].path if "master" in self.disks else folder, "media")
        self.hosts = make_hosts(setup, folder)
        self.processes = {label: Process(label, folder) for label in setup.processes}
        self.servers: dict[str, Server] = {server.label: server for host in self.hosts for server in host.servers}

    # Starting and ending

    def start(self) -> None:
        for host in self.hosts:
            host.start()
        self.start_processes()

    def start_processes(self) -> None:
        """Start those that do not run, all at once."""
        for process in self.processes.values():
            if process.has_failed and self.belief.in_trouble(AWAY, FULL, since=process.launched):
                process.kill()  # it found its disk full or not mounted, and is started again now
            if not process.runs:
                self.launch(process)
        for process in self.processes.values():
            if not process.await_start():
                self.belief.problems.append(f"{process.label} does not start: {process.refusal}")

    def launch(self, process: Process) -> None:
        """Start one, and do not wait for it."""
        process.launch(
            self.settings(background=process.label == "worker" or self.setup.background),
            broken=self.setup.broken,
            ascii_only=self.setup.ascii_only,
        )

    def end_processes(self) -> None:
        """End those that run, in order."""
        for process in self.processes.values():
            if wrong := process.close():
                self.ended.append(wrong)

    def restart(self, between: Callable[[], object] = lambda: None) -> None:
        """End all processes in order, do something, and start them."""
        for process in self.processes.values():
            process.thaw()
        self.end_processes()
        between()
        self.start_processes()

    def configure(self, left_out: set[int]) -> str:
        """Give all processes another list of hosts: the old ones end before the new ones begin."""
        if self.left_out == left_out or self.media in self.hidden:
            return PASSED_BY
        self.restart(lambda: setattr(self, "left_out", left_out))
        return f"hosts {[host.number for host in self.configured]}"

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the settings of a process."""
        return {
            "media_root": self.media,
            "media_hosts": [host.url for host in self.configured],
            "mode": self.setup.mode,
            "required": self.setup.required,
            "fatal_exceptions": self.setup.fatal,
            "fsync": self.setup.fsync,
            "timeout": self.setup.timeout,
            **more,
        }

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for process in self.processes.values():
            process.kill()
        for server in self.servers.values():
            server.kill()
            if server.link:
                server.link.stop()
        for path in self.hidden:
            show(path)
        self.hidden.clear()
        for disk in self.disks.values():
            disk.unmount()
        self.disks.clear()

    # What there is

    @property
    def configured(self) -> list[Host]:
        return [host for host in self.hosts if host.number not in self.left_out]

    @property
    def roots(self) -> dict[str, str]:
        """The folder of every server of a configured host, by its label."""
        return {label: root for host in self.configured for label, root in host.roots.items()}

    def is_away(self, name: str) -> bool:
        """True where a name lies in a folder that is not there just now."""
        return any(name.startswith(f"{folder}/") for folder in self.away)

    def is_starting(self) -> bool:
        """True while some process has no replicator yet."""
        return any(process.runs and not process.started for process in self.processes.values())

    def operator(self) -> Process | None:
        """Return a process that takes orders."""
        return next((process for process in self.processes.values() if process.ready), None)

    # Operations

    def operate(self, step: Step, note: Any) -> None:
        """Hand an operation to its process; ``note`` is called with what came of it, now or later."""
        process = self.processes[f"writer {step.what['by']}"]
        deadline = time.monotonic() + READY_WITHIN
        while process.is_busy and time.monotonic() < deadline:
            time.sleep(0.005)
        if not process.ready or self.is_away(step.what.get("name", "")):
            note(PASSED_BY)
            return
        operation = self.belief.begin(step)
        what = {key: value for key, value in step.what.items() if key != "by"}
        if "size" in what:
            what["value"] = self.belief.value_of(step)

        def told(answer: Answer | None) -> None:
            stopped = process.was_frozen(operation.begun)
            note(self.belief.end(step, operation, answer, stopped=stopped))

        process.ask(step.kind, told, **what)

    def is_quiet(self) -> bool:
        """True while no operation is under way."""
        return not any(process.waiting for process in self.processes.values())

    def wait_until_ended(self) -> None:
        """Return when every operation has ended; raise TimeoutError where one does not."""
        wait_until(self.is_quiet, END_WITHIN, "an operation does not end, with everything in order again")

    @contextlib.contextmanager
    def all_quiet(self) -> Iterator[bool]:
        """Wait until no operation is under way; False where that takes too long."""
        deadline = time.monotonic() + QUIET_WITHIN
        while not (quiet := self.is_quiet()) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield quiet

    # An operator

    def sync(self, number: int) -> str:
        """Have a host owed everything that lost files, by a process that runs; else it is done in the end."""
        process = self.operator()
        if process is None:
            return "nobody runs who could sync it"
        answer = process.answer_to("sync", ORDER_WITHIN, host=self.hosts[number].url)
        if answer is None or answer["effect"] != "ordered":
            return f"not synced: {(answer or {}).get('error', 'no answer')}"
        self.forgive(number)
        return f"{answer['result']} names are owed to it"

    def lose(self, number: int, why: str) -> None:
        """A host has lost files."""
        self.unsynced[number] = why
        self.seen = {(label, name) for label, name in self.seen if label not in self.hosts[number].roots}
        self.belief.spoilt = len(self.unsynced)

    def forgive(self, number: int) -> None:
        """A host is owed what it lost."""
        self.unsynced.pop(number, None)
        self.belief.spoilt = len(self.unsynced)

    # By hand

    def put_by_hand(self, name: str, value: str, size: int) -> None:
        """Put a file into the media root as rsync does: whole, and without a word to anybody."""
        path = os.path.join(self.media, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        aside = os.path.join(os.path.dirname(path), ".by-hand")
        with open(aside, "wb") as file:
            file.write(bodies.make(value, size))
        self.by_hand.add(name)
        operation = self.belief.ledger.begin(name, value)
        os.replace(aside, path)
        self.belief.ledger.end(operation, Effect.DONE)

    # The outbox

    @property
    def outbox(self) -> str:
        return os.path.join(self.media, ".resto", "outbox.sqlite3")

    def copy_outbox(self, to: str) -> None:
        """Copy the outbox as it is at one moment, as a backup does."""
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(contextlib.closing(sqlite3.connect(self.outbox, timeout=ORDER_WITHIN)))
            source.backup(stack.enter_context(contextlib.closing(sqlite3.connect(to))))

    def replace_outbox(self, backup: str) -> None:
        """Have an earlier outbox in the place of this one. Nobody may use it meanwhile."""
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.outbox}{suffix}")
        shutil.copy2(backup, self.outbox)

    # Parts

    def _make_disks(self) -> None:
        if self.setup.disk == "master":
            self.disks["master"] = Disk(os.path.join(self.folder, "disk"), DISK)
        elif self.setup.disk == "host":
            self.disks["host"] = Disk(os.path.join(self.folder, "host-0"), DISK)

    def remove(self) -> None:
        """Remove all files of a history that is over."""
        shutil.rmtree(self.folder, ignore_errors=True)
