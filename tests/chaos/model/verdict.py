"""The end of a history: what is owed is delivered, and then everything must be as clients were told, everywhere.

    delivered    a replicator of ours drains, on a clock that runs ahead, so that nobody waits until a late request can
                 no longer arrive; hosts that lost files are synced first, as an operator does
    equal        every server equals the master, and the master the ledger; what the application finds is the same
    told         `status` says so, in the library and at the command line
    left         no temporary file, no process, no descriptor

``play`` calls this when the faults are over and all operations have ended. What is wrong goes to the problems.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from belief import Clock, believed

from resto_wsgi import RestoError
from resto_wsgi.replicator import Parts, Replicator

from .. import bodies
from ..judge import OLD, judge, left_over, read_root
from ..rig import environment
from .faults import Faults
from .look import note_vanished
from .site import Site

__all__ = ["conclude"]

DELIVERED_WITHIN = 60.0  # seconds
EQUAL_WITHIN = 60.0  # seconds in which the nodes of a tree are equal, once its root is right
LOOKED_AT_AGAIN = 7200.0  # seconds after which whatever ended unknown is to have been looked at again
SWEEPS_EVERY = 7200.0  # seconds after which a sweep looks at everything again
DRAIN = 0.5  # seconds for which it is drained at a time
COMMAND_WITHIN = 60.0  # seconds


def conclude(site: Site, faults: Faults) -> float:
    """Have everything delivered and judge it; return the seconds that it took to become equal."""
    problems = site.belief.problems
    if site.setup.patient:
        _wait_for_the_workers(site)
    if site.mute:
        _judge_but_what_is_broken(site)
        faults.make_readable()
    site.end_processes()
    problems += site.ended
    begun = time.monotonic()
    with _replicator(site) as (replicator, clock):
        _deliver(site, replicator)
        if 11 in site.setup.lines:
            faults.wait_for_late()
            clock.ahead += LOOKED_AT_AGAIN
            _deliver(site, replicator)
        clock.ahead += SWEEPS_EVERY
        replicator.sweep()
        took = _judge(site) - begun
        _judge_what_is_found(site, replicator)
    _judge_the_command(site)
    note_vanished(site)
    for process in site.processes.values():
        problems += process.defects()
    return took


def judge_what_is_left(site: Site) -> None:
    """End the servers in order, and note what of the product is left then."""
    for server in site.servers.values():
        server.stop()
    later = time.time() + 2 * OLD  # everything of a process that has ended is too old then
    for label, root in {"MEDIA_ROOT": site.media, **site.roots}.items():
        site.belief.problems += [f"left over in {label}: {found}" for found in left_over(root, later)]
    site.belief.problems += [f"left over: process {pid}" for pid in _processes_in(site.folder)]


def _wait_for_the_workers(site: Site) -> None:
    """Leave it to the processes of the application, on the real clock, as after every outage."""
    deadline = time.monotonic() + DELIVERED_WITHIN
    process = site.operator()
    while process is not None and not site.unsynced:
        told = process.answer_to("status", DELIVERED_WITHIN, names=[])
        if told and told["effect"] == "told" and not any(owed for _, owed, _, _ in told["hosts"].values()):
            return
        if time.monotonic() > deadline:
            site.belief.problems.append(f"still owed after {DELIVERED_WITHIN:.0f} s of workers: {told}")
            return
        time.sleep(0.2)


@contextlib.contextmanager
def _replicator(site: Site) -> Iterator[tuple[Replicator, Clock]]:
    clock = Clock()
    with Replicator(parts=Parts(clock=clock, sleep=clock.sleep), **site.settings()) as replicator:
        yield replicator, clock


def _judge_but_what_is_broken(site: Site) -> None:
    """Have a process of the application deliver what it can; all but what cannot be read must be right then.

    It may read no more than its permissions say, which we as root cannot find out.
    """
    process = site.operator()
    if process is None or site.unsynced:
        return
    process.answer_to("drain", DELIVERED_WITHIN, timeout=DELIVERED_WITHIN / 2)
    _judge(site)


def _deliver(site: Site, replicator: Replicator) -> None:
    """Deliver what is owed, and see that all is well then, as `status` says it."""
    for number in list(site.unsynced):
        if site.setup.mode == "distributed":  # it is filled from another, which has to have everything
            _drain(replicator)
        try:
            replicator.sync(site.hosts[number].url)
        except RestoError as error:
            site.belief.problems.append(f"host {number} cannot be synced: {error}")
        site.forgive(number)
    done = _drain(replicator)
    status = replicator.status()
    states = [host.state for host in status.hosts]
    if not (done and not status.owed and set(states) == {"up"}):
        names = sorted(name for name in site.belief.ledger.names() if replicator.status(name).owing)
        problem = (
            f"drain says {done} after {DELIVERED_WITHIN:.0f} s, status {states} and {status.owed} owed: {names[:5]}"
        )
        site.belief.problems.append(f"owed: {problem}; {[host.error for host in status.hosts]}")


def _drain(replicator: Replicator) -> bool:
    """Drain until nothing is owed and all hosts are up; False where that takes too long."""
    deadline = time.monotonic() + DELIVERED_WITHIN
    while not (done := replicator.drain(DRAIN)) or {host.state for host in replicator.status().hosts} != {"up"}:
        status = replicator.status()
        if time.monotonic() > deadline or (status.owed and status.owed == status.parked):
            return False
    return done


def _judge(site: Site) -> float:
    """Compare everything; return when it was equal, or was given up."""
    kept = site.setup.mode != "distributed"
    ledger = site.belief.ledger
    truth = site.media if kept else site.configured[0].servers[0].root
    but = {name for name in (*ledger.names(), *read_root(truth)) if site.is_away(name)}
    deadline = time.monotonic() + EQUAL_WITHIN
    while True:
        verdict = judge(ledger, truth, site.roots, None, now=0.0, but=but)
        if verdict.clean or not _has_trees(site) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for kind, lines in verdict.findings.items():
        site.belief.problems += [f"{kind}: {line}" for line in lines]
    if not kept and (spool := read_root(site.media)):
        site.belief.problems.append(f"left over: a spool of {sorted(spool)}")
    return time.monotonic()


def _has_trees(site: Site) -> bool:
    return any(len(host.servers) > 1 for host in site.configured)


def _judge_what_is_found(site: Site, replicator: Replicator) -> None:
    """What the application finds by its library is what the first host has."""
    held = read_root(site.configured[0].servers[0].root)
    try:
        found = {name: bodies.identify(content) for name, content in believed(replicator).items()}
    except (AssertionError, OSError, RestoError) as error:
        site.belief.problems.append(f"the application cannot read what there is: {type(error).__name__}: {error}")
        return
    for name in sorted(found.keys() | held.keys()):
        if found.get(name) != held.get(name):
            problem = f"the application finds {found.get(name)} as {name}, the first host has {held.get(name)}"
            site.belief.problems.append(problem)


def _judge_the_command(site: Site) -> None:
    """`resto status` says the same, with the exit status of all is well."""
    settings = site.settings()
    names: dict[str, Any] = {
        "MEDIA_ROOT": settings["media_root"],
        "RESTO_MEDIA_HOSTS": " ".join(settings["media_hosts"]),
        "RESTO_MODE": settings["mode"],
    }
    command = [sys.executable, "-m", "resto_wsgi", "status", "--json"]
    run = subprocess.run(
        command,
        env=environment() | names,
        cwd=site.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_WITHIN,
    )
    if run.returncode or json.loads(run.stdout)["owed"]:
        said = (run.stdout + run.stderr).strip()[-300:]
        site.belief.problems.append(f"untrue: resto status exits with {run.returncode}, and says {said}")


def _processes_in(folder: str) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if os.path.commonpath([os.readlink(f"/proc/{entry}/cwd"), folder]) == folder:
                    yield int(entry)
