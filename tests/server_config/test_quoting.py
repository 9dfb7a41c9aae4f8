"""No value from outside leaves its place in a configuration: it is refused in one line, or means itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, event, example, given, settings
from hypothesis import strategies as st
from printed import ENVIRON, LOOPBACK, Printed, ask, open_folder, own, user
from servers import need

from resto_wsgi.errors import ConfigError
from resto_wsgi.server_config import Site, apache, lighttpd, nginx, quoting, systemd

CONFIGURE: dict[str, Callable[[Site], str]] = {
    "nginx": nginx.configure,
    "lighttpd": lighttpd.configure,
    "apache": apache.configure,
}
HOSTILE = [
    "with a blank",
    " at both ends ",
    "a;b",
    "a{b}c",
    "}",
    'a"b',
    "a'b",
    'a\\"b',
    "a\\",
    "\\",
    '"; } # ',
    "$uri",
    "${HOME}",
    "${resto}",
    "$",
    "$1",
    "%{REQUEST_URI}",
    "%h%n%%",
    "#comment",
    "a#b",
    "a*b?c[d]e",
    "[a]",
    "~",
    "=",
    "@a",
    "|a",
    "-a",
    "<If>",
    "</Location>",
    "a,b:c",
    "ünï日本🎉",
    '" => "/etc/',
    '" + env.HOME + "',
    "a\\nb",
    "a\tb",
    "a\nb",
    "a\rb",
    "a\u2028b",
    "a\u00a0b",
    "a\x7fb",
    "a\udcffb",
    "...",
    "x" * 255,
]
WORDS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text("\\\"'${}();#%*?[]<>|~ ab\n", min_size=1, max_size=12),
    st.text(min_size=1, max_size=30),
).filter(lambda word: "/" not in word and "\0" not in word and word not in (".", ".."))
FEW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def made(folder: Path, word: str) -> Path:
    """Make a folder of that name; a name that the disk does not take is not tried."""
    assume(len(word.encode(errors="surrogateescape" if not _whole(word) else "strict")) <= 255)
    path = folder / word
    path.mkdir(exist_ok=True)
    own(path)
    return path


def _whole(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        assume(all(not "\ud800" <= each <= "\udfff" or "\udc80" <= each <= "\udcff" for each in word))
        return False
    return True


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
@FEW
@given(word=WORDS)
def test_any_root_is_refused_or_served(kind: str, word: str) -> None:
    """What is printed passes the server's own test, and it serves exactly that folder, and writes there."""
    need(kind)
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        root = made(folder, word)
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
        run = made(folder, word)
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


@pytest.mark.parametrize(
    ("keyword", "value", "problem"),
    [
        ("root", "media", "absolute path"),
        ("root", "/", "folder of its own"),
        ("root", "//", "folder of its own"),
        ("root", "/srv/a\nb", "not printable"),
        ("root", "/srv/" + "x" * 1024, "longer than"),
        ("temp", "tmp", "absolute path"),
        ("path", "/a b", "letters, digits"),
        ("path", "/.resto", "letters, digits"),
        ("path", '/a"', "letters, digits"),
        ("path", "/a{", "letters, digits"),
        ("path", "media", "letters, digits"),
        ("path", "/a//b", "letters, digits"),
        ("path", "/a\n", "letters, digits"),
        ("address", "localhost", "IP address"),
        ("address", "::1%lo", "IP address"),
        ("port", 0, "1 to 65535"),
        ("writers", ("10.0.0.1/8",), "network"),
        ("writers", ("10.0.0.0/8; allow all",), "network"),
        ("address", "::1%lo; evil", "IP address"),
        ("writers", ("fe80::1%eth0",), "network"),
        ("writers", ("fe80::1%; evil",), "network"),
        ("listers", ("all",), "network"),
        ("max_body", 0, "from 1 on"),
        ("naming", "mine", "original, random, content"),
        ("user", "www-data; x", "name of a user"),
        ("user", "a\n", "name of a user"),
        ("certificate", "/c", "give both"),
        ("client_ca", "/c", "needs TLS"),
    ],
)
def test_a_site_is_checked_at_once(keyword: str, value: object, problem: str) -> None:
    """Before any text is made, in one line."""
    with pytest.raises(ConfigError, match=problem) as caught:
        Site(**{"root": "/srv/media"} | {keyword: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


# systemd


def verify(folder: Path, units: dict[str, str]) -> str:
    """Return what systemd says of units: nothing where all is well."""
    for name, text in units.items():
        (folder / name).write_text(text, encoding="utf-8")
    try:
        paths = [str(folder / name) for name in units]
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *paths]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, timeout=60)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    return done.stderr if done.returncode or str(folder) in done.stderr else ""


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(word=WORDS)
@example("%n")
@example("a\\x20b")
@example("-")
def test_any_command_and_folder_is_refused_or_understood_by_systemd(word: str) -> None:
    """systemd finds the command where it is, which is where it would not look if one character meant another."""
    with open_folder() as folder:
        place = made(folder, word)
        command = place / "resto"
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
        try:
            units = systemd.media_server(str(command), Site(root=str(place), path=""), ["http://b:8080"])
            units |= systemd.drain(str(command), {"MEDIA_ROOT": str(place)}, "www-data", [str(place)])
        except ConfigError as error:
            assert "\n" not in str(error)
            return
        assert verify(folder, units) == ""
        command.unlink()
        assert "not executable" in verify(folder, units)


def test_values_of_systemd_are_doubled_and_escaped() -> None:
    """A percent begins a specifier everywhere, a dollar begins a variable in arguments alone."""
    assert quoting.systemd("x", 'a %n "b" \\c $d') == '"a %%n \\"b\\" \\\\c $d"'
    assert quoting.systemd_argument("x", "a %n $d") == '"a %%n $$d"'
    with pytest.raises(ConfigError):
        quoting.systemd("x", "a\nExecStart=/bin/evil")


def test_lighttpd_with_tls_loads_its_module() -> None:
    """Which is a package of its own, and so not there for every test."""
    text = lighttpd.configure(Site(root="/srv/media", certificate="/c", key="/k"))
    assert '"mod_openssl"' in text and 'ssl.pemfile = "/c"' in text
