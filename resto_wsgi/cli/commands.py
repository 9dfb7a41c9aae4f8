"""The commands of `resto`: options in, exit status out.

A command reads its options, calls the module that does the work and gives back its exit status. A `RestoError`
becomes one line on stderr and exit status 1 for every command, in one place; any other exception is a defect
and keeps its traceback.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import RestoError

__all__ = ["resto"]


class _PlainErrors(click.Group):
    """A group whose commands report a `RestoError` in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RestoError as error:
            click.echo(f"resto: {error}", err=True)
            sys.exit(1)


@click.group(cls=_PlainErrors)
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
    from .demo import run

    sys.exit(run(once=once, servers=servers, port=port))
