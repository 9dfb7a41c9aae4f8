"""``resto media-server --catch-up-from``: the progress of it on the terminal, and what is left to do at its end."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn

from ..errors import ConfigError, MediaRootError, counted, shown
from ..media_server import MediaServer
from ..media_server.tree import catch_up as work

__all__ = ["catch_up", "parse_rate"]

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
COLUMNS = (TextColumn("catching up"), BarColumn(), MofNCompleteColumn(), DownloadColumn(True), TransferSpeedColumn())


def catch_up(application: MediaServer, url: str, rate: float | None, credentials: Mapping[str, str]) -> None:
    """Bring the root up to date before it is served. Raises ConfigError if that cannot be.

    A file that could not be had is named, and the process ends with status 1: the server does not start without it, for
    it would be served as missing.
    """
    console = Console(stderr=True)
    application.start()
    with Progress(*COLUMNS, console=console, disable=not console.is_terminal) as bar:
        names = bar.add_task("names", total=None)

        def report(progress: work.Progress) -> None:
            bar.update(names, completed=progress.seen)

        def warn(line: str) -> None:
            # Names may hold brackets, which rich would take for markup.
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        run = work.CatchUp(
            application.role,
            url,
            rate=rate,
            credentials=credentials,
            report=report,
            warn=warn,
        )
        try:
            done = run.run()
        except work.CatchUpError as error:
            raise ConfigError("catch-up-from", str(error)) from error
        except (OSError, MediaRootError) as error:
            raise ConfigError("root", f"cannot be brought up to date: {error.strerror or error}") from error
    text = f"caught up with {shown(url)}: {counted(done.seen, 'name')}, "
    text += f"{done.fetched} fetched ({counted(done.size, 'byte')})"
    console.print(
        f"{text}, {done.deleted} deleted, {done.newer} newer here", markup=False, highlight=False, soft_wrap=True
    )
    if done.failed:
        warn(f"resto: catch-up-from: {counted(done.failed, 'name')} could not be had; run it again")
        sys.exit(1)


def parse_rate(text: str) -> float:
    """Return bytes per second of a number with k, m or g after it, or nothing. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9})([kmg]?)", text.strip().lower())
    if not match or not int(match[1]):
        raise ValueError(f"wanted bytes per second such as 500k or 20m, found {text!r}")
    return float(int(match[1]) * UNITS[match[2]])
