"""What breaks by itself in a site, and what puts it right: processes, links, and disks that are full.

Each kind of step has a method, which says in words what it did; disks and folders that go away are in ``folders``, what
people do in ``administrator``, what needs several hands in ``rehearsed``. A fault that does not fit the moment (what it
would kill is dead already) is passed by. ``mend`` puts everything right that a history has left broken, but for what is
to stay broken while all else is judged.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from ..rig import wait_until
from .administrator import Administrator
from .belief import AWAY, FULL
from .folders import Folders
from .look import look
from .machines import wait_for_quiet
from .plan import Step
from .rehearsed import Rehearsed
from .site import PASSED_BY, Site

__all__ = ["Faults"]

QUIET = 0.4  # seconds without a change in the hosts, after which nothing that was under way still comes
HELD_WITHIN = 60.0  # seconds in which a link has passed on what it holds
STEADY = 1_000_000  # bytes a second: slow, but every file gets through


class Faults:
    """Breaks and mends ``site``."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._folders = Folders(site)
        self._rehearsed = Rehearsed(site, self._folders)
        self._kinds: dict[str, Callable[[Step], str]] = {
            "kill": self._kill,
            "start": self._start,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "link": self._set_link,
            "fill": self._fill,
            "empty": self._empty,
            "look": lambda step: look(self._site),
            **self._folders.kinds,
            **Administrator(site).kinds,
            **self._rehearsed.kinds,
        }

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of steps that are known here."""
        return frozenset(self._kinds)

    def do(self, step: Step) -> str:
        """Do what a step says; return that in words."""
        return self._kinds[step.kind](step)

    def mend(self) -> None:
        """Put everything right, and return when what was under way has arrived."""
        site = self._site
        for process in site.processes.values():
            process.thaw()
        for server in site.servers.values():
            server.signal(signal.SIGCONT)
            if server.link:
                server.link.set("pass")
        for disk in site.disks.values():
            disk.empty()
        self._folders.bring_all_back()
        site.belief.end_trouble(AWAY, FULL)
        for host in site.hosts:
            host.start()
        site.wait_until_ended()
        if site.left_out:
            site.configure(set())
        site.start_processes()
        self.wait_for_late()
        wait_for_quiet([server.root for server in site.servers.values()], QUIET)
        if 11 in site.setup.lines:
            self._rehearsed.send_late()
        if 3 in site.setup.lines:
            self._slow_down()

    def wait_for_late(self) -> None:
        """Return when the links hold nothing any more."""
        links = [server.link for server in self._site.servers.values() if server.link]
        wait_until(lambda: not any(link.under_way for link in links), HELD_WITHIN, "a link does not let go")

    def make_readable(self) -> None:
        """Mend what stayed broken while all else was judged."""
        self._folders.make_readable()

    def _slow_down(self) -> None:
        """Have everything sent once more, over links that stay slow (line 3)."""
        for server in self._site.servers.values():
            if server.link:
                server.link.set("slow", rate=STEADY)
        for host in self._site.hosts:
            self._site.lose(host.number, "everything is to be sent over a slow link")

    def _kill(self, step: Step) -> str:
        process = self._site.processes.get(step.what["who"])
        if process is not None:
            process.kill()
        else:
            self._site.servers[step.what["who"]].kill()
        return "killed"

    def _start(self, step: Step) -> str:
        """Nobody starts the application where its media root is not mounted: it would begin a new one there."""
        site, who = self._site, step.what["who"]
        if who in site.processes:
            if site.processes[who].runs or site.media in site.hidden:
                return PASSED_BY
            site.launch(site.processes[who])
        elif site.servers[who].pid is None and site.servers[who].root not in site.hidden:
            site.servers[who].launch()
        return "started"

    def _freeze(self, step: Step) -> str:
        process = self._site.processes.get(step.what["who"])
        if process is not None:
            process.freeze()
        else:
            self._site.servers[step.what["who"]].signal(signal.SIGSTOP)
        return "stopped"

    def _thaw(self, step: Step) -> str:
        process = self._site.processes.get(step.what["who"])
        if process is not None:
            process.thaw()
        else:
            self._site.servers[step.what["who"]].signal(signal.SIGCONT)
        return "goes on"

    def _set_link(self, step: Step) -> str:
        link = self._site.servers[step.what["link"]].link
        if link is None:
            return PASSED_BY
        mode = {key: value for key, value in step.what.items() if key not in ("link", "mode")}
        link.set(step.what.get("mode", "pass"), **mode)
        return "set"

    def _fill(self, step: Step) -> str:
        for label, disk in self._site.disks.items():
            if label == "master":
                self._site.belief.begin_trouble(FULL)
            disk.fill()
        return "full"

    def _empty(self, step: Step) -> str:
        for disk in self._site.disks.values():
            disk.empty()
        self._site.belief.end_trouble(FULL)
        return "empty"
