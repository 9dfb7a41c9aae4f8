"""The commands of `resto config`: what each server's configuration can be told, and the call that prints it.

Options that several of them have are written once. The work is done in ``config``, which is imported when a command
runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["config"]


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator for several options."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_place = _options(
    click.option("--root", metavar="DIR", help="The folder to serve; MEDIA_ROOT by default."),
    click.option("--listen", metavar="[ADDRESS:]PORT", help="The port of --host, else 8080, by default."),
    click.option(
        "--allow",
        metavar="NETWORK",
        multiple=True,
        help="Who may write: each application server. Only this machine by default.",
    ),
    click.option("--user", metavar="USER", default="www-data", show_default=True, help="Whom the server runs as."),
    click.option("--output", metavar="DIR", help="Write into this folder, not to standard output."),
)
_site = _options(
    _place,
    click.option("--host", metavar="HOST", help="The server that this is for, as it stands in RESTO_MEDIA_HOSTS."),
    click.option("--list", metavar="NETWORK", multiple=True, help="Who may list folders; as --allow by default."),
    click.option("--max-body", metavar="SIZE", default="1g", show_default=True, help="Bytes of a file, or 64k, 20m."),
    click.option(
        "--naming",
        type=click.Choice(["original", "random", "content"]),
        help="That of the middleware: names that it makes are cached for a year. Not if anything overwrites files.",
    ),
    click.option("--temp", metavar="DIR", help="For what is being received; in the root by default."),
    click.option("--certificate", metavar="FILE", help="Serve TLS, with this certificate and its chain."),
    click.option("--key", metavar="FILE", help="The certificate's key."),
    click.option("--client-ca", metavar="FILE", help="Writers also need a certificate of this authority."),
    click.option("--run", metavar="DIR", help="The server's own files: pid, logs. Debian's places by default."),
)
_command = click.option("--command", metavar="FILE", help="The command resto on that machine; this one by default.")
_tree = click.option(
    "--tree", metavar="TREE", help="For each node of a tree, such as 'a:8080(b:8080(d:8080,e:8080),c:8080)'."
)


@click.group()
def config() -> None:
    """Print the configuration of a media server, or units of systemd, from the settings.

    MEDIA_ROOT, MEDIA_URL and RESTO_... in the environment say what; the options add what only that server knows.
    """


@config.command()
@_site
@click.option("--no-fall-back", is_flag=True, help="Do not ask the other media servers for a file that is not here.")
@click.option("--peer-ca", metavar="FILE", help="The authority of the other media servers' certificates.")
@click.option("--peer-name", metavar="NAME", help="The name in all of them.")
@click.option("--part", is_flag=True, help="Only what belongs into http { }, for a file in conf.d.")
@_tree
@_command
def nginx(no_fall_back: bool, peer_ca: str | None, peer_name: str | None, part: bool, **options: Any) -> None:
    """Print nginx.conf.

    With --host, a file that is not here is read from the other media servers in RESTO_MEDIA_HOSTS. With --tree, each
    node reads what it has not from its children; the unit that is printed with it takes the writes.
    """
    from . import config as work

    peers = {key: value for key, value in (("ca", peer_ca), ("name", peer_name)) if value is not None}
    own = {each: options.pop(each) for each in ("tree", "output", "command")}
    work.print_nginx(options, fall_back=not no_fall_back, peers=peers, complete=not part, **own)


@config.command()
@_site
def lighttpd(output: str | None, **options: Any) -> None:
    """Print lighttpd.conf."""
    from . import config as work

    work.print_lighttpd(options, output=output)


@config.command()
@_site
@click.option(
    "--modules",
    metavar="DIR",
    default="/usr/lib/apache2/modules",
    show_default=True,
    help="The folder of Apache's modules.",
)
def apache(modules: str, output: str | None, **options: Any) -> None:
    """Print the configuration of Apache."""
    from . import config as work

    work.print_apache(options, modules=modules, output=output)


@config.command()
@_place
@_tree
@_command
def systemd(**options: Any) -> None:
    """Print units: `resto drain` with its timer, and our own media server.

    With --tree, one unit of our own media server for each node, which passes on what it gets to its children.
    """
    from . import config as work

    own = {each: options.pop(each) for each in ("tree", "output", "command")}
    work.print_systemd(options, **own)
