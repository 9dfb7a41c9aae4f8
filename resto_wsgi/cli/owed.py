"""`resto status`, `drain`, `sync` and `forget`: what is owed, shown and delivered, for people, cron and scripts.

Each opens the replicator that the environment describes, without a background thread of its own, and closes it. Exit
status 0 means that all is well, 1 that something is owed, differs or is down. What cannot be found out is raised, and
the group of the commands makes 2 of it. What is asked now and what is remembered are shown apart.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..config import Settings
from ..errors import ConfigError, counted, shown
from ..outbox.status import Answer, HostStatus, NameStatus, Status
from ..replicator import Replicator
from .terminal import plain

__all__ = ["drain", "forget", "show_skipped", "show_status", "sync"]

WIDE = 250  # columns without a terminal: a line for each host, for grep and for mails of cron


def show_status(name: str | None, *, as_json: bool, ask: bool) -> int:
    """Print the status of all hosts, or of one name; return the exit status. With ``ask``, the hosts are asked."""
    with _replicator() as replicator:
        if name is not None:
            status = replicator.status(name, ask=ask)
            print(json.dumps(_name_facts(status), indent=2)) if as_json else _print_name(status)
            return 0 if status.well else 1
        whole = replicator.status(ask=ask)
    print(json.dumps(_facts(whole), indent=2)) if as_json else _print(whole)
    return 0 if whole.well else 1


def show_skipped(*, as_json: bool) -> int:
    """Print what no host gets, a line for each; return the exit status, 1 if there is anything."""
    found = False
    with _replicator() as replicator:
        for each in replicator.skipped():
            found = True
            facts = {"name": each.name, "kind": each.kind}
            print(json.dumps(facts) if as_json else f"{shown(each.name, 4000)}: one of the {each.kind}")
    if not (found or as_json):
        print("every file is one that media servers get")
    return 1 if found else 0


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
    with _replicator(begin=True) as replicator:
        count = replicator.sync(host)
    print(f"{host} is owed {counted(count, 'name')}; the application delivers, or `resto drain`")
    return 0


def forget(host: str) -> int:
    """Forget a host that is not configured any more, and what it is owed; return the exit status."""
    with _replicator(hostless=True) as replicator:
        count = replicator.dismiss(host)
    print(f"{host} is not owed {counted(count, 'name')} any more")
    return 0


@contextmanager
def _replicator(*, hostless: bool = False, begin: bool = False) -> Iterator[Replicator]:
    """Open the replicator; with ``begin`` also over a folder that no application has used yet."""
    settings = dataclasses.replace(Settings.from_environ(os.environ), background=False)
    _check_media_root(settings.media_root, begin=begin)
    if not (settings.hosts or hostless):
        raise ConfigError("RESTO_MEDIA_HOSTS", "names no media server; set it as it is for the application")
    with Replicator(settings) as replicator:
        yield replicator


def _check_media_root(path: str, *, begin: bool) -> None:
    """Raise ConfigError if no application has been at work, or another user's, whom we would lock out."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError("MEDIA_ROOT", f"{path} is no folder")
    except FileNotFoundError:
        raise ConfigError("MEDIA_ROOT", f"there is no folder {path}; see that its disk is mounted") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        owner = os.stat(os.path.join(path, ".resto")).st_uid
    except FileNotFoundError:
        if not begin:
            raise ConfigError(
                "MEDIA_ROOT", f"no application has used {path} yet; its first request begins, or `resto sync HOST`"
            ) from None
        owner = _owner_to_be(path, status)
    except OSError as error:
        raise _unreadable(path, error) from error
    if owner != os.geteuid():
        raise ConfigError("MEDIA_ROOT", f"is not yours; run this as its owner: sudo -u '#{owner}' resto ...")


def _owner_to_be(path: str, status: os.stat_result) -> int:
    """Return who will own what is made there. Raises ConfigError if that is not the application's user for certain."""
    # The application may run as any user who can write here. A .resto that root begins would lock it out.
    if status.st_uid == 0 and status.st_mode & 0o022:
        raise ConfigError("MEDIA_ROOT", f"others than root write to {path}; run this as the application's user")
    return status.st_uid


def _unreadable(path: str, error: OSError) -> ConfigError:
    return ConfigError("MEDIA_ROOT", f"{path} cannot be looked into: {error.strerror}; run this as its owner")


def _print(status: Status) -> None:
    """Print a line for each host; the column of what hosts say now is there if they were asked."""
    asked = any(host.asked for host in status.hosts)
    now = ["asked now"] if asked else []
    table = Table(box=None, pad_edge=False)
    for column in ("host", *now, "remembered", "since", "owed", "parked", "oldest", "last error"):
        right = column in ("owed", "parked")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=column == "host")
    for host in status.hosts:
        said = [plain(_said(host.asked))] if asked else []
        owed = "all" if host.everything else str(host.owed)
        cells = (host.state, _when(host.since), owed, str(host.parked), _when(host.oldest), plain(host.error))
        table.add_row(plain(host.host), *said, *cells)
    _output().print(table)
    for kind, count in status.skipped.items():
        print(f"no media server gets {count} {kind}; all of them: resto status --skipped")


def _said(answer: Answer | None) -> str:
    return "" if answer is None else answer.error or "answers"


def _print_name(status: NameStatus) -> None:
    """Print what should be, and a line for each host: what it holds now, if it was asked, and what is remembered."""
    now = ["asked now"] if status.asked else []
    table = Table(box=None, pad_edge=False)
    for column in ("host", *now, "remembered", "owed since", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "host")
    for host in (*status.hosts, *status.new):
        said = [plain(_held(status, status.asked[host]))] if status.asked else []
        table.add_row(plain(host), *said, *_remembered(status, host))
    print(f"{shown(status.name, 300)} is {_kind_of(status)}")
    _output().print(table)


def _kind_of(status: NameStatus) -> str:
    if status.present:
        return "present"
    return "absent" if status.known else "unknown: there is no such file, and nothing says that there was one"


def _held(status: NameStatus, answer: Answer) -> str:
    if answer.error:
        return answer.error
    if answer.size is None:
        return "does not hold it"
    if status.present and not status.agrees(answer):
        return f"holds {counted(answer.size, 'byte')}, not {status.expected:,}"
    return f"holds it, {counted(answer.size, 'byte')}"


def _remembered(status: NameStatus, host: str) -> Iterable[Text | str]:
    delivery = status.owing.get(host)
    if delivery is not None:
        why = plain(delivery.reason or "not tried yet")
        return "parked" if delivery.parked else "owed", _when(delivery.since), why
    if host in status.new:
        return "new", "", "what it holds is not known yet; it is to get all that there is"
    if not status.known:
        return "nothing", "", ""
    return "holds it" if status.present else "does not hold it", "", ""


def _output() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def _when(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _facts(status: Status) -> dict[str, object]:
    return {
        "well": status.well,
        "owed": status.owed,
        "parked": status.parked,
        "skipped": dict(status.skipped),
        "hosts": [_host_facts(host) for host in status.hosts],
    }


def _host_facts(host: HostStatus) -> dict[str, object]:
    asked = None if host.asked is None else {"answers": not host.asked.error, "error": host.asked.error}
    return dataclasses.asdict(host) | {"asked": asked}


def _name_facts(status: NameStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "well": status.well,
        "known": status.known,
        "present": status.present,
        "size": status.size,
        "new": list(status.new),
        "asked": {label: dataclasses.asdict(answer) for label, answer in status.asked.items()},
        "holding": list(status.holding),
        "owing": {label: delivery._asdict() | {"host": delivery.host.url} for label, delivery in status.owing.items()},
    }
