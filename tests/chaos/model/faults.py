"""What breaks by itself in a site, and what puts it right: processes, links, disks and folders.

Each kind of step has a method, which says in words what it did; what people do is in ``administrator``. A fault that
does not fit the moment (what it would kill is dead already) is passed by. ``mend`` puts everything right that a history
has left broken, but for what is to stay broken while all else is judged.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

from ..disks import hide, show
from ..rig import wait_until
from .administrator import Administrator
from .belief import AWAY, FULL
from .look import look
from .machines import wait_for_quiet
from .plan import Step
from .site import PASSED_BY, Site

__all__ = ["Faults"]

QUIET = 0.4  # seconds without a change in the hosts, after which nothing that was under way still comes
HELD_WITHIN = 60.0  # seconds in which a link has passed on what it holds


class Faults:
    """Breaks and mends ``site``."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._kinds: dict[str, Callable[[Step], str]] = {
            "kill": self._kill,
            "start": self._start,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "link": self._set_link,
            "fill": self._fill,
            "empty": self._empty,
            "hide master": self._hide_master,
            "show master": self._show_master,
            "hide host": self._hide_host,
            "show host": self._show_host,
            "hide folder": self._hide_folder,
            "show folder": self._show_folder,
            "move folder away": self._move_away,
            "move folder back": self._move_back,
            "unreadable": self._unreadable,
            **Administrator(site).kinds,
            "look": lambda step: look(self._site),
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
            self._mend_link(server.label)
        for disk in site.disks.values():
            disk.empty()
        for folder in list(site.away - site.mute.keys()):
            self._bring_back(folder)
        for path in list(site.hidden):
            self._show(path)
        site.belief.end_trouble(AWAY, FULL)
        for host in site.hosts:
            host.start()
        site.wait_until_ended()
        if site.left_out:
            site.configure(set())
        site.start_processes()
        if 11 not in site.setup.lines:
            self.wait_for_late()
        wait_for_quiet([server.root for server in site.servers.values()], QUIET)

    def wait_for_late(self) -> None:
        """Return when the links hold nothing any more."""
        links = [server.link for server in self._site.servers.values() if server.link]
        wait_until(lambda: not any(link.under_way for link in links), HELD_WITHIN, "a link does not let go")

    def make_readable(self) -> None:
        """Mend what stayed broken while all else was judged."""
        site = self._site
        for path in site.mute:
            os.chmod(os.path.join(site.media, path), 0o755)
            site.away.discard(path)
        site.mute.clear()

    # Processes and servers

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
        elif site.servers[who].pid is None:
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

    def _mend_link(self, label: str) -> None:
        link = self._site.servers[label].link
        if link is not None and not (3 in self._site.setup.lines and link.mode.kind == "slow"):
            link.set("pass")

    # Disks and folders

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

    def _hide(self, path: str) -> bool:
        if path in self._site.hidden or not os.path.isdir(path):
            return False
        hide(path)
        self._site.hidden.add(path)
        return True

    def _show(self, path: str) -> bool:
        if path not in self._site.hidden:
            return False
        show(path)
        self._site.hidden.discard(path)
        return True

    def _hide_master(self, step: Step) -> str:
        site = self._site
        if (
            site.media in site.hidden
            or site.away
            or not all(process.started for process in site.processes.values() if process.runs)
        ):
            return PASSED_BY
        site.belief.begin_trouble(AWAY)
        return "not mounted" if self._hide(site.media) else PASSED_BY

    def _show_master(self, step: Step) -> str:
        if not self._show(self._site.media):
            return PASSED_BY
        self._site.belief.end_trouble(AWAY)
        return "mounted"

    def _hide_host(self, step: Step) -> str:
        """A stock server takes and loses files meanwhile; our own node refuses them (line 12)."""
        host = self._site.hosts[step.what["host"]]
        if host.servers[0].pid is None or not self._hide(host.servers[0].root):
            return PASSED_BY
        if host.kind == "nginx":
            self._site.lose(host.number, "its disk was not mounted")
        return "not mounted"

    def _show_host(self, step: Step) -> str:
        host = self._site.hosts[step.what["host"]]
        if not self._show(host.servers[0].root):
            return PASSED_BY
        return "mounted; " + self._site.sync(host.number) if host.kind == "nginx" else "mounted"

    def _hide_folder(self, step: Step) -> str:
        return self._take_away(step.what["folder"], lambda path: self._hide(path))

    def _show_folder(self, step: Step) -> str:
        return self._give_back(step.what["folder"])

    def _move_away(self, step: Step) -> str:
        def move(path: str) -> None:
            os.rename(path, self._aside)
            os.mkdir(path)

        return self._take_away(step.what["folder"], move)

    def _move_back(self, step: Step) -> str:
        return self._give_back(step.what["folder"])

    @property
    def _aside(self) -> str:
        return os.path.join(os.path.dirname(self._site.media), "aside")

    def _take_away(self, folder: str, take: Callable[[str], object]) -> str:
        """Nobody saves in a folder while it goes, or while it is away."""
        site = self._site
        path = os.path.join(site.media, folder)
        with site.all_quiet() as quiet:
            if not quiet or site.away or site.media in site.hidden or not os.path.isdir(path):
                return PASSED_BY
            take(path)
            site.away.add(folder)
        return "gone"

    def _give_back(self, folder: str) -> str:
        """Look first whether anything was concluded from what is not there."""
        if folder not in self._site.away - self._site.mute.keys() or self._site.media in self._site.hidden:
            return PASSED_BY
        seen = look(self._site)
        self._bring_back(folder)
        return f"back; {seen}"

    def _bring_back(self, folder: str) -> None:
        site = self._site
        path = os.path.join(site.media, folder)
        site.away.discard(folder)
        if self._show(path):
            return
        if found := [entry for entry in os.listdir(path) if not entry.startswith(".")]:
            site.belief.problems.append(f"{found} were made in {folder} while it was away")
            shutil.rmtree(path)
        else:
            os.rmdir(path)
        os.rename(self._aside, path)

    def _unreadable(self, step: Step) -> str:
        """A folder that we may not read, until everything else is judged (line 1)."""

        def forbid(path: str) -> None:
            os.chmod(path, 0)
            self._site.mute[step.what["folder"]] = "it may not be read"

        return self._take_away(step.what["folder"], forbid)
