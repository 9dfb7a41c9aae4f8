"""`--listen` is read alike by the commands that have it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from resto_wsgi.cli.commands import resto
from resto_wsgi.cli.listen import parse_listen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("media-01:65535", ("media-01", 65535)),
        ("8080", ("", 8080)),
    ],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    """IPv6 goes into brackets."""
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["", ":", ":80", "a:", "::1:80", "[]:80", "[::1]80", "[[::1]]:80", "a:65536", "a:٨٠", "a:80 "]
)
def test_what_is_none_is_refused(text: str) -> None:
    """In one line by each command, with what it takes."""
    with pytest.raises(ValueError):
        parse_listen(text)
    for command in (["media-server", "--root", "/nowhere"], ["config", "nginx", "--root", "/srv/media"]):
        result = CliRunner().invoke(resto, [*command, "--listen", text])
        if text or command[0] == "media-server":
            assert result.exit_code and "PORT" in result.output.splitlines()[-1], result.output
