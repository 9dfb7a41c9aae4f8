"""What goes wrong with hosts, disk and clock in a history, and what is left for the operator to put right.

A fault strikes for a while, and is mended then, or at the end of the history. A host that comes back empty, or with the
files of an old backup, has to be synced by its operator; so has one whose master the administrator changed by hand
when that host had been sent the file already, for the product cannot know of either. What the administrator removes
by hand is deleted nowhere until the operator says so, with a delete.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

from .disk import Disk
from .kernel import Kernel
from .network import Network, Server
from .operations import NOT_YET

__all__ = ["Faults"]

FAULTS = {"down": 5, "silent": 3, "403": 1, "413": 1, "busy": 2, "wiped": 1, "restored": 1, "clock": 2, "unmounted": 1}
FAR = 3600.0  # seconds by which the clock is set back so that the product sees it; by less, it waits so much longer
LONGEST = 40.0  # seconds that a host is away


class Faults:
    """The faults of one history, but for those of single requests, which the network draws."""

    def __init__(self, kernel: Kernel, network: Network, disk: Disk, plan: dict[str, Any], outbox_path: str) -> None:
        self.generations_went_back = False
        self._outbox_path = outbox_path
        self.spoilt = False  # something was lost that the product cannot know of yet, so that reads may find anything
        self.away_at = -1  # the last step at which the disk was not mounted
        self.set_back = 0.0  # seconds, in jumps of the clock that are too short for the product to see
        self.unsynced: dict[str, int] = {}  # hosts that lost files, and the step at which they came back
        self.by_hand: set[tuple[str, str]] = set()  # host and name of what the administrator changed
        self.unsaid: set[str] = set()  # names that are gone by hand, which the operator has yet to delete
        self._kernel = kernel
        self._network = network
        self._disk = disk
        self._plan = plan
        self._backups: dict[str, list[dict[str, bytes]]] = {url: [{}] for url in network.servers}
        self._comes_back_with: dict[str, dict[str, bytes]] = {}

    def strike(self) -> None:
        """Let something go wrong, or not: what is broken is not broken again."""
        fault = self._kernel.chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        if self._kernel.chance.random() < self._plan["restores"]:
            self._set_generations_back()
        elif fault == "clock":
            self._jump()
        elif fault == "unmounted":
            self._unmount()
        else:
            self._break(self._kernel.chance.choice(list(self._network.servers.values())), fault)

    def back_up(self) -> None:
        """Keep what some host holds, to be restored later."""
        server = self._kernel.chance.choice(list(self._network.servers.values()))
        self._backups[server.url].append(dict(server.files))

    def change_by_hand(self, server: Server, name: str, content: bytes | None) -> None:
        """The administrator changes the master while ``server`` is being sent the name: that one has to notice."""
        if content is None:
            self._disk.files.pop(name, None)
            self.unsaid.add(name)
        else:
            self._disk.files[name] = self._disk.inode(content, self._kernel.clock())
            self.by_hand.update((url, name) for url in self._network.servers if url != server.url)

    @property
    def left_to_do(self) -> int:
        """How much is left for the operator."""
        return len(self.unsynced) + len(self.by_hand) + len(self.unsaid)

    def mend(self) -> None:
        """Mend all. What is under way at the hosts may still be carried out late."""
        self._mount()
        for server in self._network.servers.values():
            self._mend(server)
        self._kernel.stalls = self._network.unreliable = self._disk.refusals = 0.0
        self._network.last_fault = self._kernel.now

    def _break(self, server: Server, fault: str) -> None:
        chance = self._kernel.chance
        if server.weather != "up":
            return
        if fault in ("wiped", "restored"):
            if self._plan["mode"]["mode"] == "distributed" and self.spoilt:
                return  # where no master is kept, all copies of a file may be lost, but not by our doing
            self.spoilt = True
            old = chance.choice(self._backups[server.url]) if fault == "restored" else {}
            self._comes_back_with[server.url] = old
        self._network.count(f"host {fault}")
        if fault in ("down", "wiped", "restored"):
            server.stop()
        else:
            server.weather = fault
        moment = self._kernel.now + min(chance.expovariate(1 / 6), LONGEST)
        self._kernel.at(moment, f"{server.url}: is up", lambda: self._mend(server))

    def _mend(self, server: Server) -> None:
        if server.weather == "up":
            return
        server.weather = "up"
        self._network.last_fault = self._kernel.now
        files = self._comes_back_with.pop(server.url, None)
        if files is not None:
            server.files = dict(files)
            if server.versions is not None:
                server.versions = {}
            self.unsynced[server.url] = self._kernel.steps

    def _unmount(self) -> None:
        """Another disk is seen where the media root was: nothing is there, and nothing may be concluded from that."""
        if self._disk.away or self._plan["mounted"]:
            return
        self._network.count("disk unmounted")
        self.spoilt = self._disk.away = True
        self.away_at = NOT_YET
        moment = self._kernel.now + self._kernel.chance.expovariate(1 / 2)
        self._kernel.at(moment, "the disk is mounted", self._mount)

    def _mount(self) -> None:
        if self._disk.away:
            self._disk.away = False
            self.away_at = self._kernel.steps
            self._network.last_fault = self._kernel.now

    def _set_generations_back(self) -> None:
        """The clock is set back, and the outbox has generations as one from an old backup has them, or a new one.

        What it owes is as it was: what is lost with a backup is for its operator to sync, which other faults do.
        """
        self._network.count("generations go back")
        self.generations_went_back = True
        self._kernel.offset -= 7200.0
        with contextlib.closing(sqlite3.connect(self._outbox_path, timeout=60.0)) as connection, connection:
            connection.execute("UPDATE meta SET value = 0 WHERE key = 'generation'")

    def _jump(self) -> None:
        if not self._plan["clock_jumps"]:
            return
        jump = self._kernel.chance.choice((3.0, -1.0, -10.0, -30.0, -7200.0))
        self._network.count(f"clock {jump:+g} s")
        self._kernel.offset += jump
        if jump > -FAR:
            self.set_back += max(-jump, 0.0)
