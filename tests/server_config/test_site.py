"""What a media server has to serve, to whom, and where: checked once, in no server's language."""

from __future__ import annotations

import re

import pytest
from printed import printed

from resto_wsgi import names
from resto_wsgi.errors import ConfigError
from resto_wsgi.server_config import Site
from resto_wsgi.server_config.site import IMMUTABLE, checked_user

ROOT = {"MEDIA_ROOT": "/srv/media"}


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


def test_a_site_is_brought_into_one_form() -> None:
    """What means the same is written the same, and what was not said has its default."""
    site = Site(root="//srv/./media/", path="/media/", address="0:0::1", writers=("10.1.2.3", "10.1.2.3/32", "::1"))
    assert (site.root, site.temp, site.path) == ("/srv/media", "/srv/media/.temp", "/media")
    assert (site.address, site.shown_address) == ("::1", "[::1]")
    assert site.writers == site.listers == ("10.1.2.3/32", "::1/128")
    assert Site(root="/srv/media", listers=("10.0.0.0/8",)).listers == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("www-data", "install -d -o www-data -g www-data '/srv/my media' /v"),
        ("", "install -d '/srv/my media' /v"),
    ],
)
def test_the_command_that_makes_the_folders_is_one_line_for_a_shell(user: str, command: str) -> None:
    """It stands in a comment, to be copied from there."""
    assert Site(root="/srv/my media", user=user).prepare("/srv/my media", "/v") == command


@pytest.mark.parametrize("user", ["", "app", "_www", "app-1.x"])
def test_the_name_of_a_user_stays_as_it_is(user: str) -> None:
    """No name at all is for a server that does not start as root."""
    assert checked_user(user) == user


@pytest.mark.parametrize("naming", IMMUTABLE)
def test_the_names_that_the_middleware_makes_are_known_to_be_immutable(naming: str) -> None:
    """Each way of naming has a pattern, and names of the others do not match it."""
    made = {
        "original": f"/media/a/cat-{names.random_token(length=10)}.jpg",
        "random": f"/media/a/{names.random_token(length=20)}.jpg",
        "content": f"/media/a/{'0123456789abcdef' * 4}.jpg",
    }
    pattern = Site(root="/srv/media", naming=naming).immutable
    assert pattern is not None and [each for each, name in made.items() if re.search(pattern, name)] == [naming]
    assert Site(root="/srv/media").immutable is None


@pytest.mark.parametrize(("naming", "there", "not_there"), [
    ("original", "/cat-0123456789.jpg", "/cat-012345678.jpg"),
    ("random", "/a/01234567890123456789", "/a/x01234567890123456789"),
    ("content", "/" + "0" * 64 + ".tar", "/" + "0" * 64 + ".tar.gz"),
])  # fmt: skip
def test_naming_says_which_names_never_change(naming: str, there: str, not_there: str) -> None:
    """The pattern is that of the names that the middleware makes."""
    (line,) = [each for each in printed("nginx", "--naming", naming, **ROOT).splitlines() if "immutable" in each]
    pattern = line.split('"')[1].removeprefix("~")
    assert re.search(pattern, there) and not re.search(pattern, not_there)
