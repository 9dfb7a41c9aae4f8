"""No value from outside leaves its place in a configuration: it is refused in one line, or means itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest
from hostile import HOSTILE, WORDS, made_folder
from hypothesis import HealthCheck, event, given, settings
from printed import LOOPBACK, Printed, ask, open_folder, own, user
from servers import need

from resto_wsgi.errors import ConfigError
from resto_wsgi.server_config import Site, apache, lighttpd, nginx

CONFIGURE: dict[str, Callable[[Site], str]] = {
    "nginx": nginx.configure,
    "lighttpd": lighttpd.configure,
    "apache": apache.configure,
}
FEW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
@FEW
@given(word=WORDS)
def test_any_root_is_refused_or_served(kind: str, word: str) -> None:
    """What is printed passes the server's own test, and it serves exactly that folder, and writes there."""
    need(kind)
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        root = made_folder(folder, word)
        server = stack.enter_context(Printed(kind, folder))
        (root / ".temp").mkdir()
        own(root / ".temp")
        try:
            site = Site(root=str(root), run=str(server.run), address=LOOPBACK, port=server.port, user=user())
            text = CONFIGURE[kind](site)
        except ConfigError as error:
            event("refused")
            assert "\n" not in str(error) and str(error).isascii()
            return
        (root / "here").write_bytes(word.encode())
        server.start(text)
        assert ask("GET", f"{server.url}/here").data == word.encode()
        assert ask("PUT", f"{server.url}/new", b"new").status == 201
        assert (root / "new").read_bytes() == b"new"


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
@FEW
@given(word=WORDS)
def test_any_folder_of_the_servers_own_files_is_refused_or_used(kind: str, word: str) -> None:
    """The log is written there and nowhere else."""
    need(kind)
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        run = made_folder(folder, word)
        server = stack.enter_context(Printed(kind, folder))
        try:
            site = Site(root=str(server.root), run=str(run), address=LOOPBACK, port=server.port, user=user())
            text = CONFIGURE[kind](site)
        except ConfigError as error:
            assert "\n" not in str(error)
            return
        server.start(text)
        assert ask("GET", f"{server.url}/nothing").status == 404
        assert "error.log" in os.listdir(run)


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
def test_few_paths_are_refused(kind: str) -> None:
    """Only what the language cannot say: each server takes nearly all of what is printable."""

    def is_refused(word: str) -> bool:
        try:
            CONFIGURE[kind](Site(root=f"/srv/{word}"))
        except ConfigError:
            return True
        return False

    refused = set(filter(is_refused, HOSTILE))
    printable = {word for word in HOSTILE if word.isprintable()}
    can_not = {
        "nginx": {word for word in printable if "$" in word},
        "lighttpd": {word for word in printable if "\\" in word},
        "apache": {word for word in printable if "${" in word},
    }
    assert refused & printable == can_not[kind]
    assert refused - printable == set(HOSTILE) - printable


def test_every_path_is_quoted() -> None:
    """Certificate, key, authority, folders: each is refused under its own name where it cannot be quoted."""
    whole = Site(root="/r", temp="/t", certificate="/c", key="/k", client_ca="/a", run="/v")
    for kind, bad in (("nginx", "$x"), ("apache", "${x}"), ("lighttpd", "\\")):
        for part in ("root", "temp", "certificate", "key", "client_ca", "run"):
            if (kind, part) in {("apache", "temp"), ("lighttpd", "client_ca")}:
                continue
            site = replace(whole, **{part: f"/{bad}"})
            if kind == "lighttpd":
                site = replace(site, client_ca=None)
            with pytest.raises(ConfigError) as caught:
                CONFIGURE[kind](site)
            assert caught.value.setting == part


# systemd
