"""`resto config` as people type it: where its values come from, what it refuses, and what it writes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from printed import ENVIRON, printed, resto

from resto_wsgi.errors import ConfigError
from resto_wsgi.server_config import Node, parse_tree

ROOT = {"MEDIA_ROOT": "/srv/media"}


def shape(node: Node) -> str:
    children = ",".join(map(shape, node.children))
    return node.host.label + (f"({children})" if children else "")


@pytest.mark.parametrize("text", ["a", "a:8080(b:8080(d:8080,e:8080),c:8080)", "a(b(c(d)),[::1]:80,http://x/y)"])
def test_a_tree_is_read_as_it_is_written(text: str) -> None:
    """With blanks or without; each node knows its parent, its level and how much is below it."""
    for spelt in (text, text.replace(",", " ,\n").replace("(", " ( ")):
        tree = parse_tree(spelt, "/media/")
        assert shape(tree) == text
        assert all(node in node.parent.children for node in tree.walk() if node.parent)
        assert tree.height == max(node.level for node in tree.walk())


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "()",
        "a(",
        "a)",
        "a()",
        "a(b",
        "a(b))",
        "(a)",
        "a,b",
        "a b",
        "a(b)c",
        "a(b)(c)",
        "a(,b)",
        "a(b,)",
        "a((b))",
    ],
)
def test_what_is_no_tree_is_refused(text: str) -> None:
    """In one line, with an example."""
    with pytest.raises(ConfigError, match=r"^tree: takes NODE\(CHILD"):
        parse_tree(text, "/media/")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:80(b,a)", "same server"),
        ("a(b:99999)", "port"),
        ("a(me@b)", "user or a password"),
        ("(".join("abcdefghijklmnopq") + ")" * 16, "16 levels"),
        ("a(" + ",".join(f"b{number}" for number in range(1000)) + ")", "1001 nodes"),
    ],
)
def test_a_tree_has_bounds_and_no_circle(text: str, problem: str) -> None:
    """The same host twice would be a circle."""
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_tree(text, "/media/")
    assert caught.value.setting == "tree"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nginx", "--host", "c:80"], "host: 'c:80' is not in RESTO_MEDIA_HOSTS; write it as it is there"),
        (["nginx", "--listen", "media:80"], "listen: takes [ADDRESS:]PORT with an IP address, not 'media'"),
        (["nginx", "--listen", "::1:80"], "listen: takes [ADDRESS:]PORT, such as 8080 or [::]:8080, not '::1:80'"),
        (["apache", "--max-body", "1 TB"], "max_body: takes bytes, such as 1048576, 64k, 20m or 1g, not '1 TB'"),
        (["lighttpd", "--allow", "all"], "allow: takes a network such as 10.0.0.0/8, not 'all'"),
        (["nginx", "--host", "https://s/"], "certificate: is needed for 'https://s', or --listen for what is behind"),
        (["nginx", "--root", "/a$b"], "root: '/a$b/' holds a $, which nginx takes for a variable; use another path"),
        (["nginx", "--tree", "a:65000"], "tree: port 65000 leaves none for the node, at 1000 above it"),
        (["nginx", "--tree", "a_80(a:80)"], "tree: two nodes would have the file a_80.nginx.conf; write one of them"),
        (
            ["systemd", "--tree", "https://a"],
            "tree: 'https://a': our own media server takes HOST:PORT and nothing else",
        ),
        (["nginx", "--output", "/dev/null/x"], "output: cannot be written: Not a directory"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments: list[str], problem: str) -> None:
    """On stderr, with exit status 1 and nothing on standard output."""
    done = resto("config", *arguments, RESTO_MEDIA_HOSTS="a:80 b:80 https://s", **ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"resto: {problem}")


def test_the_settings_say_where_names_hang_and_who_listens() -> None:
    """The path of MEDIA_URL, the port of --host, and the scheme of a full URL."""
    text = printed("nginx", MEDIA_URL="https://example.org/files/", **ROOT)
    assert "location /files/ {" in text and "listen 8080;" in text
    text = printed("nginx", "--host", "m:81", RESTO_MEDIA_HOSTS="m:81", MEDIA_URL="/f/", **ROOT)
    assert "location /f/ {" in text and "listen 81;" in text
    tls = ["--certificate", "/c", "--key", "/k"]
    text = printed("apache", "--host", "https://m/x", *tls, RESTO_MEDIA_HOSTS="https://m/x", **ROOT)
    assert "Listen 443 https" in text and "<Location /x>" in text
    text = printed("lighttpd", "--listen", "[::]:82", **ROOT)
    assert 'server.bind = "[::]"' in text and '$SERVER["socket"] == "0.0.0.0:82"' in text
    assert "listen [::]:82 ipv6only=off;" in printed("nginx", "--listen", "[::]:82", **ROOT)


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


def test_a_temporary_folder_elsewhere_is_noticed(tmp_path: Path) -> None:
    """Where both are on this machine: else a reader could see part of a file."""
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    done = resto("config", "nginx", "--root", str(tmp_path), "--temp", "/dev/shm")
    assert done.stderr.startswith("resto: temp: is on another file system than the root")


def sections(text: str) -> dict[str, str]:
    """The files of an output, by their names."""
    parts = text.split("# ==== ")[1:]
    return {part.partition(" ====\n")[0]: part.partition(" ====\n")[2] for part in parts}


def test_the_units_have_the_settings_of_the_application(tmp_path: Path) -> None:
    """All that are set, quoted; what may be written is the media root and the folder of the outbox."""
    settings = {"RESTO_MEDIA_HOSTS": "a:80 b:80", "RESTO_OUTBOX": "/var/lib/100% mine/outbox", "RESTO_MODE": "async"}
    units = sections(printed("systemd", "--command", "/opt/resto", "--user", "app", **settings, **ROOT))
    assert list(units) == ["resto-drain.service", "resto-drain.timer", "resto-media-server.service"]
    drain = units["resto-drain.service"].splitlines()
    assert 'Environment="RESTO_MEDIA_HOSTS=a:80 b:80"' in drain and 'Environment="MEDIA_ROOT=/srv/media"' in drain
    assert 'ReadWritePaths="/srv/media" "/var/lib/100%% mine"' in drain
    assert 'ExecStart="/opt/resto" drain "--timeout" "240"' in drain and "User=app" in drain
    assert "RESTO_OUTBOX" not in units["resto-media-server.service"]
    assert "ProtectHome=yes" in drain
    own = {"RESTO_CREDENTIALS_FILE": "/home/app/credentials"}
    assert "ProtectHome=read-only" in sections(printed("systemd", **own, **ROOT))["resto-drain.service"].splitlines()
    written = printed("systemd", "--output", str(tmp_path / "new"), **ROOT).split()
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "new").iterdir())


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify`, where it is: with a port of root's, a home and children too."""
    options = ["--output", str(tmp_path), "--command", "/bin/true"]
    printed("systemd", *options, "--listen", "80", "--root", "/home/media", "--user", "www-data")
    printed("systemd", *options, "--root", "/srv/media", "--tree", "10.0.0.1:8080(10.0.0.2:8080,10.0.0.3:80)")
    units = sorted(tmp_path.iterdir())
    assert len(units) == 6
    try:
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *map(str, units)]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, timeout=60)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


def test_a_tree_of_our_own_nodes_is_a_unit_for_each(tmp_path: Path) -> None:
    """Names hang below / there; a parent may write, where it is named by its address."""
    options = ["--allow", "10.9.0.0/16", "--command", "/r", "--root", "/srv/media"]
    units = sections(printed("systemd", *options, "--tree", "10.0.0.1:8080(10.0.0.2:81(10.0.0.3),c)"))
    lines = [next(line for line in text.splitlines() if "ExecStart" in line) for text in units.values()]
    start, allow = 'ExecStart="/r" "media-server" "--root" "/srv/media" "--listen"', '"--allow" "10.9.0.0/16"'
    assert lines == [
        f'{start} "0.0.0.0:8080" {allow} "--child" "http://10.0.0.2:81" "--child" "http://c"',
        f'{start} "0.0.0.0:81" {allow} "--allow" "10.0.0.1/32" "--child" "http://10.0.0.3"',
        f'{start} "0.0.0.0:80" {allow} "--allow" "10.0.0.2/32"',
        f'{start} "0.0.0.0:80" {allow} "--allow" "10.0.0.1/32"',
    ]
