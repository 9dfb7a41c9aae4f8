"""`resto check`: what the probes found, as tables for people and as JSON for scripts.

Reads the settings for the hosts, MEDIA_URL and the timeout; of MEDIA_ROOT it is only seen whether a host writes there.
Exit status 0 means that replication would be safe, 1 that it would not, 2 that it could not be found out, 130 that the
check was interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..check import Check, Finding, Report
from ..check.remedies import KINDS
from ..config import Settings
from ..errors import ConfigError
from ..hosts import Host, parse_hosts
from ..transports.http.security import Security
from ..transports.http.transport import HttpTransport
from .terminal import plain

__all__ = ["check"]

WIDE = 160  # columns without a terminal: findings stay in a line or two, for mails and logs
CELL_MAX = 500  # characters of a cell: what a host says is quoted and bounded before, so this is for whole paths
STYLES = {"ok": "green", "warning": "yellow", "unsafe": "bold red", "unknown": "cyan"}
INTERRUPTED = 130  # as a shell reports SIGINT


def check(specs: Sequence[str], *, as_json: bool, timeout: float | None, largest: int) -> int:
    """Check the hosts of ``specs``, or those of the settings; return the exit status. Raises ConfigError."""
    settings = _settings(specs)
    hosts = parse_hosts(specs, settings.media_url) if specs else settings.hosts
    if not hosts:
        raise ConfigError("RESTO_MEDIA_HOSTS", "names no media server; give one as HOST, or set it")
    timeout = settings.timeout if timeout is None else timeout
    security = Security.of(settings, hosts)
    transport = HttpTransport(timeout, security)
    try:
        work = Check(
            hosts,
            transport,
            timeout,
            largest=largest,
            security=security,
            media_root=os.environ.get("MEDIA_ROOT"),
            keeps_master=settings.mode != "distributed",
        )
        with _signals(work), _progress(hosts):
            reports = work.run()
    finally:
        transport.close()
    if as_json:
        print(json.dumps(_facts(work, reports), indent=2))
    else:
        _print(work, reports)
    if work.interrupted:
        return INTERRUPTED
    return 0 if all(report.safe for report in reports) else 1


def _settings(specs: Sequence[str]) -> Settings:
    environ = {"MEDIA_ROOT": "/", **os.environ}  # which is not touched
    if specs:
        for name in ("RESTO_MEDIA_HOSTS", "RESTO_REQUIRED"):  # the one belongs to the other
            environ.pop(name, None)
    return Settings.from_environ(environ)


@contextlib.contextmanager
def _signals(work: Check) -> Iterator[None]:
    """Let whatever asks the process to end stop the check, so that it leaves nothing behind."""
    before = {
        each: signal.signal(each, lambda *_: work.stop()) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _progress(hosts: Sequence[Host]) -> Iterator[None]:
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield
        return
    with errors.status(Text(f"checking {', '.join(host.label for host in hosts)}")):
        yield


def _facts(work: Check, reports: Sequence[Report]) -> dict[str, Any]:
    return {
        "safe": all(report.safe for report in reports),
        "interrupted": work.interrupted,
        "hosts": [
            {
                "host": report.host.label,
                "url": report.host.url,
                "kind": report.kind,
                "server": report.server,
                "safe": report.safe,
                "folder": report.folder,
                "findings": [dataclasses.asdict(finding) for finding in report.findings],
                "untested": list(report.untested),
                "left": list(report.left),
            }
            for report in reports
        ],
        "differences": [dataclasses.asdict(finding) for finding in work.differences],
    }


def _print(work: Check, reports: Sequence[Report]) -> None:
    columns = os.environ.get("COLUMNS", "")
    console = Console(width=None if sys.stdout.isatty() or columns.isdecimal() else WIDE)
    for report in reports:
        console.print(_cell(f"{report.host.label}: {KINDS[report.kind]}"), style="bold")
        console.print(_table(report.findings))
        if report.untested:
            console.print(Padding(_cell(f"not tested: {', '.join(report.untested)}"), (0, 0, 0, 2)))
        console.print()
    if work.differences:
        console.print("differences between these hosts", style="bold")
        console.print(_table(work.differences))
        console.print()
    if work.interrupted:
        console.print("interrupted" + ("" if any(report.left for report in reports) else "; nothing is left there"))
    for report in reports:
        console.print(_summary(report))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=True, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        seen = _cell(finding.seen)
        if finding.remedy:
            seen.append("\n").append_text(_cell(f"=> {finding.remedy}"))
        table.add_row(Text(finding.verdict, style=STYLES[finding.verdict]), Text(finding.key), seen)
    return table


def _summary(report: Report) -> Text:
    unsafe = sum(finding.verdict == "unsafe" for finding in report.findings)
    warnings = sum(finding.verdict == "warning" for finding in report.findings)
    counted = f", {warnings} warning{'s' if warnings != 1 else ''}" if warnings else ""
    if report.safe:
        return _cell(f"{report.host.label}: replication is safe{counted}")
    if unsafe:
        return _cell(f"{report.host.label}: replication is not safe, {unsafe} unsafe{counted}")
    return _cell(f"{report.host.label}: not all was tested{counted}")


def _cell(text: str) -> Text:
    return plain(text, CELL_MAX)
