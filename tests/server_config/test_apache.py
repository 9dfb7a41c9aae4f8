"""What only Apache needs; what all servers have to do is in ``test_servers.py``."""

from __future__ import annotations

import re

import pytest

from resto_wsgi.server_config import Site, apache


def test_modules_are_loaded_from_where_they_are_and_only_once() -> None:
    """Debian and Red Hat have them in different folders, and Debian loads some of them before."""
    text = apache.configure(Site(root="/srv/media", certificate="/c", key="/k"), "/usr/lib64/httpd/modules")
    loaded = re.findall(r"<IfModule !(\w+)_module>\n    LoadModule (\w+)_module \"(.*)\"\n</IfModule>", text)
    assert [first for first, _, _ in loaded] == [second for _, second, _ in loaded]
    assert {"unixd", "dav", "dav_fs", "ssl"} <= {name for name, _, _ in loaded}
    assert all(path == f"/usr/lib64/httpd/modules/mod_{name}.so" for name, _, path in loaded)
    assert "ssl" not in apache.configure(Site(root="/srv/media")).lower()


def test_what_is_hidden_has_the_last_word() -> None:
    """Sections of Location are merged in the order of the file: nothing after it may allow what it denies."""
    text = apache.configure(Site(root="/srv/media", naming="content"))
    last = text.rstrip().splitlines()[-3:]
    assert last == ['<LocationMatch "/\\.">', "    Require all denied", "</LocationMatch>"]


@pytest.mark.parametrize(("user", "count"), [("www-data", 1), ("", 0)])
def test_a_server_that_does_not_start_as_root_becomes_nobody_else(user: str, count: int) -> None:
    """Apache would refuse to start where it cannot."""
    text = apache.configure(Site(root="/srv/media", user=user))
    assert (text.count("\nUser "), text.count("\nGroup ")) == (count, count)
