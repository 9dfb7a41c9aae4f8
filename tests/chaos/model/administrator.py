"""What people do to a site: backups and their restoration, hosts that go and come, files put there by hand.

Whoever does something behind the product's back does after it what the manual says: ``resto sync`` for each host that
it concerns. If nobody runs who could take that order, the host is noted as not synced, and is synced in the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .belief import AWAY, FULL
from .plan import Step
from .setup import FOLDER
from .site import PASSED_BY, Site

__all__ = ["Administrator"]

SIZE = 3_000  # bytes of what is put by hand
SECRET = b"nobody outside may read this"


class Administrator:
    """Works on ``site``; ``kinds`` has what is done for each kind of step."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._backups: dict[str, str] = {}
        self.kinds: dict[str, Callable[[Step], str]] = {
            "back up host": self._back_up_host,
            "restore host": self._restore_host,
            "replace host": self._replace_host,
            "back up outbox": self._back_up_outbox,
            "restore outbox": self._restore_outbox,
            "leave": lambda step: site.configure({step.what["host"]}),
            "join": lambda step: site.configure(set()),
            "by hand": self._by_hand,
            "symbolic link": self._symbolic_link,
            "decomposed name": self._decomposed,
        }

    # Hosts and backups

    def _back_up_host(self, step: Step) -> str:
        host = self._site.hosts[step.what["host"]]
        if host.url in self._backups:
            return PASSED_BY
        self._backups[host.url] = backup = os.path.join(self._site.folder, f"backup-{step.number}")
        host.copy(backup)
        return "copied"

    def _restore_host(self, step: Step) -> str:
        url = self._site.hosts[step.what["host"]].url
        return self._fill_host(step.what["host"], self._backups.pop(url)) if url in self._backups else PASSED_BY

    def _replace_host(self, step: Step) -> str:
        return self._fill_host(step.what["host"], None)

    def _fill_host(self, number: int, backup: str | None) -> str:
        """Have a host come back with other files than it went with; the operator syncs it before it answers again."""
        site = self._site
        host = site.hosts[number]
        if host.servers[0].root in site.hidden or (site.disks and number == 0):
            return PASSED_BY
        host.servers[0].kill()
        site.lose(number, "it has what it was given")
        host.replace(backup)
        synced = site.sync(number) if number not in site.left_out else "left out"
        host.servers[0].launch()
        return f"other files; {synced}"

    def _back_up_outbox(self, step: Step) -> str:
        site = self._site
        if site.media in site.hidden:
            return PASSED_BY
        self._backups["outbox"] = backup = os.path.join(site.folder, f"backup-{step.number}")
        site.copy_outbox(backup)
        return "copied"

    def _restore_outbox(self, step: Step) -> str:
        """Put an older outbox in the place of today's; then do what the operator is told to do."""
        site = self._site
        if "outbox" not in self._backups or site.media in site.hidden:
            return PASSED_BY
        site.restart(lambda: site.replace_outbox(self._backups["outbox"]))
        for host in site.configured:
            site.lose(host.number, "the outbox is from a backup")
        return "; ".join(site.sync(host.number) for host in site.configured)

    # Things that somebody does to the media root

    def _by_hand(self, step: Step) -> str:
        """Put a file there, and have the hosts brought up to date: nobody else could tell."""
        name = f"{FOLDER}/b.jpg" if step.number % 2 else f"by-hand/{step.number}.txt"
        return self._put(name, step)

    def _decomposed(self, step: Step) -> str:
        return self._put(f"cafe\u0301-{step.number}.txt", step)

    def _put(self, name: str, step: Step) -> str:
        site = self._site
        if site.away or site.belief.in_trouble(AWAY, FULL):
            return PASSED_BY
        for host in site.configured:
            site.lose(host.number, "a file was put by hand")
        site.put_by_hand(name, site.belief.value_of(step), SIZE)
        return f"{name} written; " + "; ".join(site.sync(host.number) for host in site.configured)

    def _symbolic_link(self, step: Step) -> str:
        """A link to a file that is nobody's business, and one to a folder (line 18)."""
        site = self._site
        if site.media in site.hidden:
            return PASSED_BY
        outside = os.path.join(site.folder, f"outside-{step.number}")
        os.mkdir(outside)
        with open(os.path.join(outside, "secret"), "wb") as file:
            file.write(SECRET)
        os.symlink(os.path.join(outside, "secret"), os.path.join(site.media, f"link-{step.number}.txt"))
        os.symlink(outside, os.path.join(site.media, f"link-{step.number}"))
        return "; ".join(site.sync(host.number) for host in site.configured)
