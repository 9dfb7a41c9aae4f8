"""What only lighttpd needs, or cannot do; what all servers have to do is in ``test_servers.py``."""

from __future__ import annotations

import pytest
from printed import resto

from resto_wsgi.errors import ConfigError
from resto_wsgi.server_config import Site, lighttpd


def test_lighttpd_cannot_ask_writers_alone() -> None:
    """One line says so, and what can."""
    tls = ["--certificate", "/c", "--key", "/k", "--client-ca", "/a"]
    done = resto("config", "lighttpd", "--root", "/srv/media", *tls)
    assert done.stderr == (
        "resto: client_ca: lighttpd cannot ask writers alone for certificates; use nginx or Apache, or --allow\n"
    )


def test_lighttpd_with_tls_loads_its_module() -> None:
    """Which is a package of its own, and so not there for every test."""
    text = lighttpd.configure(Site(root="/srv/media", certificate="/c", key="/k"))
    assert '"mod_openssl"' in text and 'ssl.pemfile = "/c"' in text


@pytest.mark.parametrize(("max_body", "kibibytes"), [(1, 1), (1024, 1), (1025, 2), (1 << 30, 1 << 20)])
def test_a_limit_is_rounded_up_to_what_lighttpd_counts_in(max_body: int, kibibytes: int) -> None:
    """Rounded down it would refuse a file that the application accepts."""
    assert f"server.max-request-size = {kibibytes}  # KiB" in lighttpd.configure(Site(root="/r", max_body=max_body))


def test_all_addresses_are_those_of_both_kinds() -> None:
    """lighttpd takes [::] for IPv6 alone; over TLS a second socket would need the certificate once more."""
    assert '$SERVER["socket"] == "0.0.0.0:8080"' in lighttpd.configure(Site(root="/r", address="::"))
    tls = lighttpd.configure(Site(root="/r", address="::", certificate="/c", key="/k"))
    assert '$SERVER["socket"]' not in tls and 'server.bind = "[::]"' in tls


def test_what_lighttpd_cannot_write_is_refused_under_its_name() -> None:
    """A backslash, which escapes nothing there but a quote."""
    with pytest.raises(ConfigError, match=r"root: .* holds a backslash"):
        lighttpd.configure(Site(root="/srv/a\\b"))
