"""Disks and folders that are not there for a while: unmounted, moved away, or not to be read.

Nobody saves in a folder that is away, or deletes there; what is judged is what the product concludes from it by itself.
Before a folder comes back there is a look, so that what was wrong meanwhile is not hidden by what came after.
``faults`` calls this.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from ..disks import hide, show
from .belief import AWAY
from .look import look
from .plan import Step
from .site import PASSED_BY, Site

__all__ = ["Folders"]


class Folders:
    """Takes away what is in ``site``, and gives it back; ``kinds`` has what is done for each kind of step."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.kinds: dict[str, Callable[[Step], str]] = {
            "hide master": self._hide_master,
            "show master": self._show_master,
            "hide host": self._hide_host,
            "show host": self._show_host,
            "hide folder": lambda step: self.take_away(step.what["folder"], self._hide),
            "show folder": lambda step: self._give_back(step.what["folder"]),
            "move folder away": lambda step: self.take_away(step.what["folder"], self._move),
            "move folder back": lambda step: self._give_back(step.what["folder"]),
        }

    def take_away(self, folder: str, take: Callable[[str], object]) -> str:
        """Have ``take`` do something to a folder of the media root, in which nobody saves from then on."""
        site = self._site
        path = os.path.join(site.media, folder)
        with site.all_quiet() as quiet:
            if not quiet or site.away or site.media in site.hidden or not os.path.isdir(path):
                return PASSED_BY
            take(path)
            site.away.add(folder)
        return "gone"

    def bring_all_back(self) -> None:
        """Give everything back, but for what is to stay broken."""
        for folder in list(self._site.away - self._site.mute.keys()):
            self._bring_back(folder)
        for path in list(self._site.hidden):
            self._show(path)

    def make_readable(self) -> None:
        """Mend what stayed broken."""
        for folder in self._site.mute:
            os.chmod(os.path.join(self._site.media, folder), 0o755)
            self._site.away.discard(folder)
        self._site.mute.clear()

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
        if site.media in site.hidden or site.away or site.is_starting():
            return PASSED_BY
        site.belief.begin_trouble(AWAY)
        self._hide(site.media)
        return "not mounted"

    def _show_master(self, step: Step) -> str:
        if not self._show(self._site.media):
            return PASSED_BY
        self._site.belief.end_trouble(AWAY)
        return "mounted"

    def _hide_host(self, step: Step) -> str:
        """A stock server takes and loses files meanwhile; our own node refuses them."""
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

    @property
    def _aside(self) -> str:
        return os.path.join(os.path.dirname(self._site.media), "aside")

    def _move(self, path: str) -> None:
        os.rename(path, self._aside)
        os.mkdir(path)

    def _give_back(self, folder: str) -> str:
        site = self._site
        if folder not in site.away - site.mute.keys() or site.media in site.hidden:
            return PASSED_BY
        seen = look(site)
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
        os.rename(self._aside, path)
