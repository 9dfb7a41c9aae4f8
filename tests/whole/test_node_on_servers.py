"""The media server on WSGI servers that others wrote, and under litmus, the test suite of WebDAV."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from node_requests import ask_server, say
from servers import Node
from wsgi_servers import running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.mark.parametrize("kind", ["gunicorn-gthread", "waitress"])
def test_it_runs_on_other_wsgi_servers(kind: str, root: Path, tmp_path: Path) -> None:
    """Written, read whole and in ranges, listed and deleted; a body in chunks and a short one are refused."""
    environ = {"NODE_ROOT": str(root), "PYTHONPATH": os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")])}
    content = os.urandom(1_000_000)
    with running(kind, "node_app:application", tmp_path / "log", environ) as server:
        node = Node(root, port=server.address[1])
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"
        assert ask_server(node, "PUT", "/a/x", content, **{"Repr-Digest": digest, "Resto-Generation": "2"})[0] == 201
        assert ask_server(node, "GET", "/a/x") == (200, content)
        assert ask_server(node, "GET", "/a/x", Range="bytes=999990-") == (206, content[-10:])
        assert content[5:9] in ask_server(node, "GET", "/a/x", Range="bytes=5-8,1-2")[1]
        assert b'"x"' in ask_server(node, "GET", "/a/")[1]
        assert ask_server(node, "PUT", "/a/x", b"y", **{"Repr-Digest": digest})[0] == 400
        assert ask_server(node, "PUT", "/a/x", b"y", **{"Resto-Generation": "1"})[0] == 412
        assert ask_server(node, "PUT", "/.y", bytes(6_000_000))[0] == 400
        reply = say(node, b"PUT /y HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nshort")
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
        assert not (root / "y").exists()
        assert ask_server(node, "GET", "/a/x") == (200, content)
        assert ask_server(node, "DELETE", "/a/x", **{"Resto-Generation": "3"})[0] == 204
    assert not list(root.glob("a/*"))


@pytest.mark.parametrize(
    ("suite", "not_ours"),
    [("basic", {"options", "delete_fragment", "delete_coll"}), ("http", set())],
)
def test_litmus_is_content(suite: str, not_ours: set[str], root: Path, tmp_path: Path) -> None:
    """But for what we do not do: claim to be a WebDAV server, and delete folders."""
    if not shutil.which("litmus"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("litmus is not installed: apt install litmus")
    with Node(root) as node:
        environ = {**os.environ, "TESTS": suite}
        done = subprocess.run(
            ["litmus", "-k", f"{node.url}/"], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
    results = dict(re.findall(r"^ *\d+\. (\w+)\.+ (pass|FAIL|SKIPPED|WARNING)", done.stdout, re.MULTILINE))
    assert {name for name, result in results.items() if result != "pass"} == not_ours, done.stdout
    assert {"init", "begin", "finish"} <= set(results)
    assert suite != "basic" or {"put_get", "put_get_utf8_segment", "delete", "delete_null", "mkcol"} <= set(results)
