"""Any filename that a client can choose makes a name that every media server keeps, serves and deletes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import urllib3
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers import KINDS, server_of

from resto_wsgi import Replicator, names


@pytest.fixture(scope="module")
def replicator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicator]:
    """One replicator over nginx, lighttpd, Apache and our own node."""
    with ExitStack() as stack:
        started = [stack.enter_context(server_of(kind, tmp_path_factory.mktemp(kind))) for kind in KINDS]
        root = tmp_path_factory.mktemp("media")
        urls = [server.url for server in started]
        yield stack.enter_context(Replicator(media_root=root, media_hosts=urls, fsync=False, timeout=20))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300))
@example("a #?%+;é b.jpg")
@example("%00%2e%2e%2fx")
@example("e\u0301 ﬁ 日本語 🎉.png")
@example("&<>\"'`$(x)|*.txt")
@example("é" * 300 + ".jpeg")
@example("a.php;.jpg")
@example("x" * 300)
def test_any_filename_survives_a_round_trip_through_each_server(replicator: Replicator, filename: str) -> None:
    """The cleaned name is inside the root, is read back from each server by its URL, and goes away again."""
    wanted = f"in/{names.with_suffix(names.clean(filename), names.random_token())}"
    stored = replicator.save(wanted, filename.encode("utf-8", "replace"))
    assert stored.name == wanted
    assert os.path.realpath(replicator.path(wanted)).startswith(os.path.realpath(replicator.settings.media_root) + "/")
    assert Path(replicator.path(wanted)).read_bytes() == filename.encode("utf-8", "replace")
    for host in replicator.settings.hosts:
        answer = urllib3.request("GET", host.url_of(wanted), retries=False)
        assert (answer.status, answer.data) == (200, filename.encode("utf-8", "replace")), host
    replicator.delete(wanted)
    for host in replicator.settings.hosts:
        assert urllib3.request("GET", host.url_of(wanted), retries=False).status == 404, host
