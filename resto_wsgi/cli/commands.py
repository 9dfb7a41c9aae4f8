"""The commands of `resto`: options in, exit status out.

A command reads its options, calls the module that does the work and gives back its exit status: 0 as wanted, 1
something is owed, differs, is down or is unsafe, 2 it could not be found out. A `RestoError` becomes one line on stderr
and exit status 2 for every command, in one place; any other exception is a defect and keeps its traceback. Those of
`resto config` are in ``config_commands``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from ..errors import ConfigError, RestoError
from .config_commands import config
from .listen import parse_listen

__all__ = ["resto"]


UNKNOWN = 2  # as click reports wrong use
INTERRUPTED = 130  # as a shell reports SIGINT


class _PlainErrors(click.Group):
    """A group whose commands report a `RestoError` in one line, and leave status 1 to what a command has found out."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RestoError as error:
            click.echo(f"resto: {error}", err=True)
            sys.exit(UNKNOWN)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


@click.group(cls=_PlainErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="resto_wsgi")
def resto() -> None:
    """Uploads that are on every media server before the answer leaves."""


@resto.command()
@click.option("--once", is_flag=True, help="Upload sample files without a person, read every copy back, and exit.")
@click.option(
    "--servers",
    type=click.Choice(["own", "nginx", "lighttpd", "apache"]),
    default="own",
    show_default=True,
    help="What the media servers run.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65000),
    default=8000,
    show_default=True,
    help="First port to try; one that is taken is stepped over.",
)
def demo(once: bool, servers: str, port: int) -> None:
    """Run three media servers and a page that uploads to them, on this machine only."""
    from ..demo.run import run

    sys.exit(run(once=once, servers=servers, port=port))


@resto.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON, times in seconds since 1970.")
@click.option("--offline", is_flag=True, help="Ask no media server: show what is remembered.")
@click.option("--skipped", is_flag=True, help="Show, instead, all in MEDIA_ROOT that no media server gets, and why.")
def status(name: str | None, as_json: bool, offline: bool, skipped: bool) -> None:
    """Ask each media server, and show what it is owed; with NAME, which of them hold that file.

    MEDIA_ROOT and RESTO_... in the environment say which. Exits 0 if all is well, 1 if anything is owed, differs or is
    down, 2 if it cannot be found out.
    """
    from .owed import show_skipped, show_status

    if skipped:
        if name is not None:
            raise click.UsageError("--skipped is about all names; leave NAME out")
        sys.exit(show_skipped(as_json=as_json))
    sys.exit(show_status(name, as_json=as_json, ask=not offline))


@resto.command()
@click.option("--host", metavar="HOST", help="Only to this media server, written as in RESTO_MEDIA_HOSTS.")
@click.option("--parked", is_flag=True, help="Try again what a media server refused for good.")
@click.option("--timeout", metavar="S", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds.")
def drain(host: str | None, parked: bool, timeout: float) -> None:
    """Deliver what is owed, for cron or by hand.

    MEDIA_ROOT and RESTO_... in the environment say what. Exits 1 if something is still owed when time is up.
    """
    from . import owed

    sys.exit(owed.drain(host, parked=parked, timeout=timeout))


@resto.command()
@click.argument("host")
def sync(host: str) -> None:
    """Owe HOST everything: for a media server that was replaced, or that lost files.

    MEDIA_ROOT and RESTO_... in the environment say what. A folder that no application has used yet is taken over as it
    is, if it is yours.
    """
    from . import owed

    sys.exit(owed.sync(host))


@resto.command()
@click.argument("url")
def forget(url: str) -> None:
    """Forget what is owed to a media server, named by its URL, that is in RESTO_MEDIA_HOSTS no more.

    Should it come back, it is owed everything.
    """
    from . import owed

    sys.exit(owed.forget(url))


def _address(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, int]:
    try:
        host, port = parse_listen(text)
    except ValueError:
        host, port = "", 0
    if not host:
        raise click.BadParameter(f"wanted HOST:PORT, found {text!r}")
    return host, port


def _rate(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    from .catching_up import parse_rate

    try:
        return None if text is None else parse_rate(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@resto.command("media-server")
@click.option("--root", required=True, metavar="DIR", help="The folder to serve; made if it is missing.")
@click.option("--listen", required=True, metavar="HOST:PORT", callback=_address, help="Port 0 picks a free one.")
@click.option("--allow", multiple=True, metavar="NETWORK", help="Let these addresses write, such as 10.0.0.0/8.")
@click.option("--allow-anyone", is_flag=True, help="Let everybody write, replace and delete.")
@click.option("--secret-file", metavar="FILE", help="Let whoever signs with a key of this file write.")
@click.option("--name", "names", multiple=True, metavar="HOST:PORT", help="Take only signatures for this name of ours.")
@click.option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate and its chain.")
@click.option("--tls-key", metavar="FILE", help="The key of that certificate.")
@click.option("--client-ca", metavar="FILE", help="Let whoever has a certificate of this authority write.")
@click.option("--inline", is_flag=True, help="Let browsers run HTML, SVG and XML, instead of saving them.")
@click.option(
    "--linked-folder",
    "linked_folders",
    multiple=True,
    metavar="FOLDER",
    help="Let this folder of the root be a symbolic link, or a disk of its own.",
)
@click.option("--threads", type=click.IntRange(1, 1000), default=20, show_default=True, help="Requests at a time.")
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds for the head of a request, and without a byte.",
)
@click.option("--child", "children", multiple=True, metavar="URL", help="Pass on to this media server what we get.")
@click.option(
    "--child-timeout",
    metavar="S",
    type=click.FloatRange(0, 3600, min_open=True),
    default=2.0,
    show_default=True,
    help="Seconds without progress after which a child is given up, and owed.",
)
@click.option("--outbox", metavar="FILE", help="The file of what children are owed; in the root by default.")
@click.option("--catch-up-from", metavar="URL", help="Before serving, get from this node what is missing or differs.")
@click.option("--limit-rate", metavar="RATE", callback=_rate, help="Bytes per second of that, or 500k, 20m.")
@click.option("--heal", is_flag=True, help="Keep what is missing here and was read through a child.")
def media_server(**options: Any) -> None:
    """Serve a folder: anybody may read, and nobody may write unless told otherwise.

    --allow, --secret-file and --client-ca each admit writers of their own (--allow 127.0.0.1: this machine).
    --allow, --name, --linked-folder and --child may be repeated.
    RESTO_SECRET_FILE in the environment is --secret-file, and RESTO_SECRET may hold what is in that file.
    Runs until SIGTERM or Ctrl-C.
    """
    from .media_server import Options, serve

    sys.exit(serve(Options(**options), os.environ))


@resto.command()
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(0, 3600, min_open=True),
    help="Seconds without progress; default: RESTO_TIMEOUT, else 2.",
)
@click.option(
    "--max-file-size",
    metavar="BYTES",
    type=click.IntRange(1, 10**15),
    default=1024**3,
    show_default=True,
    help="The largest file that your application accepts.",
)
def check(hosts: tuple[str, ...], as_json: bool, timeout: float | None, max_file_size: int) -> None:
    """Probe media servers as they are, and say what to change.

    HOST is written as in RESTO_MEDIA_HOSTS; without one, all of those in the environment are checked. Writes to a
    folder resto-check-... of its own on each, and removes it. Exits 1 if replication would not be safe.
    """
    from . import checking

    try:
        status = checking.check(hosts, as_json=as_json, timeout=timeout, largest=max_file_size)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(status)


resto.add_command(config)
