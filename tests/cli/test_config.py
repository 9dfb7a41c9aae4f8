"""`resto config` as people type it: where its values come from, what it refuses, and what it writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from printed import printed, resto

ROOT = {"MEDIA_ROOT": "/srv/media"}


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
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
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


def test_a_temporary_folder_elsewhere_is_noticed(tmp_path: Path) -> None:
    """Where both are on this machine: else a reader could see part of a file."""
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    done = resto("config", "nginx", "--root", str(tmp_path), "--temp", "/dev/shm")
    assert done.stderr.startswith("resto: temp: is on another file system than the root")


HERE = {"RESTO_MEDIA_HOSTS": "m1:80 m2:80 192.0.2.7:80", **ROOT}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["nginx", "--host", "m1:80"], "m2"),
        (["nginx", "--host", "192.0.2.7:80"], "m1, m2"),
        (["nginx", "--tree", "m1:80(m2:80,192.0.2.7:80)"], "m2"),
        (["nginx", "--host", "m1:80", "--no-fall-back"], ""),
        (["nginx"], ""),
        (["apache", "--host", "m1:80"], ""),
    ],
)
def test_names_that_nginx_has_to_resolve_are_told(arguments: list[str], names: str) -> None:
    """It does not start while one is not in DNS; whoever prints the configuration reads what to do about it."""
    done = resto("config", *arguments, **HERE)
    assert done.returncode == 0 and done.stdout
    wanted = f"resto: nginx does not start while it cannot resolve {names} (host not found in upstream): have them in"
    assert done.stderr.startswith(wanted) if names else done.stderr == ""
