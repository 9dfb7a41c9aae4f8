"""Cases that hardly ever come about by chance: several things, done in one order that makes them.

    by hand, under way    a file is replaced in the media root while it is being sent
    unreadable            a folder is owed something and may not be read; it stays so until all else is judged
    lost and found        there is a folder that may not be listed, the application starts, and hosts are synced
    stopped with a name   a process is stopped while it sends, and another one wants that name
    folder to file        a name is saved, deleted and saved again as a folder of another, and the reverse
    twice in a second     a name is overwritten at once, with as many bytes; a cache must see that
    ``send_late``         a request is carried out when nobody reckons with it any more

``faults`` calls this.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import time
from collections.abc import Callable
from urllib.parse import quote

from .. import bodies
from ..ledger import Effect
from ..rig import wait_until
from .folders import Folders
from .plan import HOT, Step
from .processes import Answer
from .setup import FOLDER
from .site import PASSED_BY, Site

__all__ = ["Rehearsed"]

UNDER_WAY = 0.6  # seconds that links delay what somebody changes the master under
SIZE = 3_000  # bytes of a file
ANSWER_WITHIN = 20.0  # seconds
NO_ANSWER = "no answer"
SENT_WITHIN = 5.0  # seconds in which the worker sends what was saved just now
HELD = 8.0  # seconds that a late request is held: longer than it takes to deliver all that is owed


class Rehearsed:
    """Plays such cases on ``site``; ``kinds`` has what is done for each kind of step."""

    def __init__(self, site: Site, folders: Folders) -> None:
        self._site = site
        self._folders = folders
        self.kinds: dict[str, Callable[[Step], str]] = {
            "by hand, under way": self._under_way,
            "unreadable": self._unreadable,
            "lost and found": self._lost_and_found,
            "stopped with a name": self._stopped,
            "folder to file": self._folder_to_file,
            "twice in a second": self._twice,
        }

    def send_late(self) -> None:
        """Overwrite a name on the way to a host that gets it late, and once more (line 11)."""
        site = self._site
        link = site.hosts[0].servers[0].link
        if link is None or self._save("late.bin", "late-1")["effect"] != "done":
            return
        link.set("late", seconds=HELD)
        self._save("late.bin", "late-2")
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: link.held, SENT_WITHIN, "the worker sends nothing")
        link.set("pass")
        self._save("late.bin", "late-3")

    def _save(self, name: str, value: str | None, by: int = 0) -> Answer:
        """Overwrite a name, or delete it; return the answer when it is there."""
        site, process = self._site, self._site.processes[f"writer {by}"]
        if not process.ready:
            return {"effect": "none", "error": "nobody runs"}
        operation = site.belief.ledger.begin(name, value)
        do = "delete" if value is None else "overwrite"
        answer = process.answer_to(do, ANSWER_WITHIN, name=name, value=value, size=SIZE)
        site.belief.ledger.end(operation, Effect(answer["effect"]) if answer else Effect.PERHAPS, open_end=not answer)
        return answer or {"effect": "perhaps", "error": NO_ANSWER}

    def _under_way(self, step: Step) -> str:
        """The hosts that the file goes to are promised to get the new one, without anybody's word."""
        site = self._site
        with site.all_quiet() as quiet:
            if not quiet or site.setup.mode != "hybrid" or not self._all_is_well():
                return PASSED_BY
        links = [server.link for server in site.servers.values() if server.link]
        for link in links:
            link.set("delay", seconds=UNDER_WAY / 2)
        name = f"by-hand/{step.number}.bin"
        site.operate(Step(step.number, "overwrite", {"by": 0, "name": name, "size": SIZE}), lambda told: None)
        time.sleep(UNDER_WAY / 3)
        site.put_by_hand(name, f"{site.belief.value_of(step)}-hand", SIZE)
        missed = site.is_quiet()
        for link in links:
            link.set("pass")
        if missed:  # it was sent before, and nobody looks again
            for host in site.configured:
                site.lose(host.number, "a file was put by hand")
        return "too late" if missed else "replaced while it was sent"

    def _all_is_well(self) -> bool:
        """True where every host would be sent a file at once."""
        site, process = self._site, self._site.processes["writer 0"]
        if site.setup.mode == "distributed" or site.media in site.hidden or site.unsynced or not process.ready:
            return False
        servers = site.servers.values()
        if any(server.pid is None or (server.link and server.link.mode.kind != "pass") for server in servers):
            return False
        told = process.answer_to("status", ANSWER_WITHIN, names=[])
        return bool(told and told["effect"] == "told" and all(line[:2] == ["up", 0] for line in told["hosts"].values()))

    def _unreadable(self, step: Step) -> str:
        """A host that is away is owed the deletes of names in that folder and beside it (line 1)."""
        site, process = self._site, self._site.processes["writer 0"]
        if site.media in site.hidden or site.mute or site.away or not process.ready:
            return PASSED_BY
        server = site.configured[-1].servers[0]
        server.kill()
        for name in HOT:
            self._save(name, None)

        def forbid(path: str) -> None:
            os.chmod(path, 0)
            site.mute[FOLDER] = "it may not be read"

        done = self._folders.take_away(FOLDER, forbid)
        server.launch()
        return done

    def _lost_and_found(self, step: Step) -> str:
        """What every ext4 has at its top keeps nobody from starting, and no host from its files."""
        site = self._site
        if site.media in site.hidden or site.away:
            return PASSED_BY
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(site.media, "lost+found"), 0)
        site.restart()
        for host in site.configured:
            site.lose(host.number, "it is to be given everything")
            said = site.sync(host.number)
            if host.number in site.unsynced:
                site.belief.problems.append(f"lost+found: host {host.number} is {said}")
        return "made"

    def _stopped(self, step: Step) -> str:
        """Whoever wants a name that a stopped process holds is told so in time (line 6)."""
        site, process = self._site, self._site.processes["writer 0"]
        links = [server.link for server in site.servers.values() if server.link]
        if not self._all_is_well() or not links or not site.processes["writer 1"].ready:
            return PASSED_BY
        for link in links:
            link.set("delay", seconds=UNDER_WAY)
        name = f"held-{step.number}.bin"
        site.operate(Step(step.number, "overwrite", {"by": 0, "name": name, "size": SIZE}), lambda told: None)
        time.sleep(UNDER_WAY / 3)
        process.freeze()
        answer = self._save(name, f"{site.belief.value_of(step)}-other", by=1)
        process.thaw()
        for link in links:
            link.set("pass")
        if answer.get("error") == NO_ANSWER:
            site.belief.problems.append(f"waits: who wants {name}, which a stopped process holds, is told nothing")
        return f"stopped; the other: {answer['effect']}"

    def _folder_to_file(self, step: Step) -> str:
        """Where all is well, nothing that is gone is in the way of what comes."""
        site = self._site
        if not self._all_is_well():
            return PASSED_BY
        above, below = f"swap-{step.number}", f"swap-{step.number}/inner"
        for turn, name in enumerate((below, above, below)):
            answer = self._save(name, f"{site.belief.value_of(step)}-{turn}")
            if answer["effect"] != "done":
                site.belief.problems.append(f"in the way: {name} is refused: {answer.get('error')}")
            if turn < 2:
                self._save(name, None)
        return "swapped"

    def _twice(self, step: Step) -> str:
        """Ask the first host after each of two saves."""
        site = self._site
        if site.hosts[0].number in site.left_out or site.hosts[0].servers[0].pid is None:
            return PASSED_BY
        name = f"twice-{step.number}.bin"
        found: dict[str, set[str]] = {}
        for turn in ("a", "b"):
            value = f"{site.belief.value_of(step)}-{turn}"
            if self._save(name, value)["effect"] == "done":
                etag, content = self._get(name, value)
                found[etag] = {*found.get(etag, ()), content}
        found.pop("", None)
        for etag, contents in found.items():
            if len(contents) > 1:
                site.belief.problems.append(f"validator: {etag} of {name} stands for {sorted(contents)}")
        return f"saved with {len(found)} validators"

    def _get(self, name: str, value: str) -> tuple[str, str]:
        """Return the validator and the content that the first host gives, when it has this one, or does not get it."""
        deadline = time.monotonic() + SENT_WITHIN
        while (found := self._get_now(name))[1] != value and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def _get_now(self, name: str) -> tuple[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._site.hosts[0].servers[0].port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", f"/{quote(name)}", headers={"Connection": "close"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                return answer.headers.get("ETag", ""), bodies.identify(content)
        return "", bodies.TORN
