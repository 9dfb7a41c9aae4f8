"""`resto status`, `drain`, `sync` and `forget`: what is owed, shown and delivered, for people, cron and scripts.

Each opens the replicator that the environment describes, without a background thread of its own, and closes it. Exit
status 0 means that nothing is owed, 1 that something is.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..config import Settings
from ..errors import ConfigError, shown
from ..outbox.status import NameStatus, Status
from ..replicator import Replicator
from .terminal import plain

__all__ = ["drain", "forget", "show_status", "sync"]

WIDE = 250  # columns without a terminal: a line for each host, for grep and for mails of cron


def show_status(name: str | None, *, as_json: bool) -> int:
    """Print the status of all hosts, or of one name; return the exit status."""
    with _replicator() as replicator:
        if name is not None:
            status = replicator.status(name)
            print(json.dumps(_name_facts(status), indent=2)) if as_json else _print_name(status)
            return 1 if status.owing else 0
        whole = replicator.status()
    print(json.dumps(_facts(whole), indent=2)) if as_json else _print(whole)
    return 1 if whole.owed else 0


def drain(host: str | None, *, parked: bool, timeout: float) -> int:
    """Deliver what is owed, with a progress bar if there is a terminal; return the exit status."""
    columns = (TextColumn("delivering"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    errors = Console(stderr=True)
    bar = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)  # cron mails a blank line
    with _replicator() as replicator, bar:
        task = bar.add_task("", total=None)
        most = 0

        def progress(owed: int) -> None:
            nonlocal most
            most = max(most, owed)
            bar.update(task, total=most, completed=most - owed)

        done = replicator.drain(timeout, host=host, parked=parked, progress=progress)
        left = replicator.status()
    if done and (host is not None or not left.strays):
        print("nothing is owed" if host is None else f"nothing is owed to {host}")
        return 0
    _print(left)
    if done:
        print("what is owed to hosts that are not in RESTO_MEDIA_HOSTS waits for them, or for `resto forget URL`")
    return 1


def sync(host: str) -> int:
    """Owe one host everything, for `drain` or the application's own worker to deliver; return the exit status."""
    with _replicator() as replicator:
        count = replicator.sync(host)
    print(f"{count} names are owed to {host}; the application delivers them, or `resto drain`")
    return 0


def forget(host: str) -> int:
    """Forget a host that is not configured any more, and what it is owed; return the exit status."""
    with _replicator() as replicator:
        count = replicator.dismiss(host)
    print(f"{count} names are not owed to {host} any more")
    return 0


@contextmanager
def _replicator() -> Iterator[Replicator]:
    settings = dataclasses.replace(Settings.from_environ(os.environ), background=False)
    _check_media_root(settings.media_root)
    with Replicator(settings) as replicator:
        yield replicator


def _check_media_root(path: str) -> None:
    """Raise ConfigError if no application has been at work, or another user's, whom we would lock out."""
    try:
        owner = os.stat(os.path.join(path, ".resto")).st_uid
    except OSError:
        raise ConfigError("MEDIA_ROOT", f"no application has saved anything in {path} yet") from None
    if owner != os.geteuid():
        raise ConfigError("MEDIA_ROOT", f"is not yours; run this as its owner: sudo -u '#{owner}' resto ...")


def _print(status: Status) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("host", "state", "since", "owed", "parked", "oldest", "last error"):
        right = column in ("owed", "parked")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=column == "host")
    for host in status.hosts:
        counts = (str(host.owed), str(host.parked))
        table.add_row(plain(host.host), host.state, _when(host.since), *counts, _when(host.oldest), plain(host.error))
    _output().print(table)


def _print_name(status: NameStatus) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("host", "holds it", "owed since", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "host")
    for host in status.hosts:
        delivery = status.owing.get(host)
        if delivery is None:
            table.add_row(plain(host), "yes" if status.present else "no", "", "")
        else:
            why = delivery.reason or "not tried yet"
            why = f"parked: {why}" if delivery.parked else why
            table.add_row(plain(host), "unknown", _when(delivery.since), plain(why))
    print(f"{shown(status.name, 300)} is {'present' if status.present else 'absent'}")
    _output().print(table)


def _output() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def _when(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _facts(status: Status) -> dict[str, object]:
    return {
        "owed": status.owed,
        "parked": status.parked,
        "hosts": [dataclasses.asdict(host) for host in status.hosts],
    }


def _name_facts(status: NameStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "present": status.present,
        "holding": list(status.holding),
        "owing": {label: delivery._asdict() | {"host": delivery.host.url} for label, delivery in status.owing.items()},
    }
