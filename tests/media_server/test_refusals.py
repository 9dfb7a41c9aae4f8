"""The log of refused writes: who tried what and why not, in lines that nobody else writes, and not too many."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask
from servers import Node, eventually
from signing import FAR, KEY, send, signed
from trees import ask as ask_node

from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.answers import Refused
from resto_wsgi.media_server.refusals import LINES_AT_ONCE, SECONDS_A_LINE, Refusals
from resto_wsgi.trust.signatures import Key

STRANGER = {"REMOTE_ADDR": FAR}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.message.startswith("refused: ")]


@pytest.mark.parametrize(
    ("method", "path", "environ", "line"),
    [
        ("PUT", "/a/b", STRANGER, f"refused: PUT '/a/b' from {FAR}: 403 Forbidden, from here, and like this"),
        ("DELETE", "/a/b", STRANGER, f"refused: DELETE '/a/b' from {FAR}: 403 Forbidden"),
        ("MKCOL", "/a", STRANGER, f"refused: MKCOL '/a' from {FAR}: 403 Forbidden"),
        ("POST", "/a", STRANGER, f"refused: POST '/a' from {FAR}: 405 Method Not Allowed"),
        ("PUT", "/a", {"HTTP_ORIGIN": "x"}, "refused: PUT '/a' from 127.0.0.1: 403 Forbidden, an address does not"),
        ("PUT", "/__index__", {}, "refused: PUT '/__index__' from 127.0.0.1: 403 Forbidden, the name is that of"),
        ("PUT", "/folder", {}, "refused: PUT '/folder' from 127.0.0.1: 409 Conflict, "),
        ("PUT", "/a", {"HTTP_IF_MATCH": '"x"'}, "refused: PUT '/a' from 127.0.0.1: 412 Precondition Failed, "),
        ("PUT", "/a", {"CONTENT_LENGTH": None}, "refused: PUT '/a' from 127.0.0.1: 411 Length Required, "),
    ],
)
def test_a_refused_write_is_in_the_log(
    app: MediaServer, caplog: Any, method: str, path: str, environ: dict[str, Any], line: str
) -> None:
    """In one line, at a level that is shown where nobody has set up logging."""
    Path(app.store.root, "folder").mkdir()
    Path(app.store.root, "folder/file").touch()  # an empty one gives way
    assert ask(app, method, path, b"x" if method == "PUT" else None, **environ).status_code >= 400
    (found,) = lines(caplog)
    assert found.startswith(line)
    assert caplog.records[-1].levelno == logging.WARNING


def test_what_is_no_refused_write_is_not(app: MediaServer, caplog: Any) -> None:
    """Reads, writes that are carried out, and deletes of what is gone."""
    ask(app, "PUT", "/x", b"x")
    ask(app, "DELETE", "/x")
    ask(app, "DELETE", "/x")
    ask(app, "GET", "/x")
    ask(app, "GET", "/", **STRANGER)
    assert lines(caplog) == []


def test_a_refused_signature_is_told_and_not_shown(tmp_path: Path, caplog: Any) -> None:
    """Neither secrets, nor what somebody could send again, nor what stands in a query."""
    app = MediaServer(tmp_path / "root", access=Access(keys=[KEY]))
    headers = signed("PUT", "http://media-01/x", b"x", key=Key("app-1", b"x" * 40))
    headers["Authorization"] = "Basic cGFzc3dvcmQ="
    assert send(app, "PUT", "/x", b"x", headers, QUERY_STRING="token=hunter2").status_code == 401
    (line,) = lines(caplog)
    assert line.startswith(f"refused: PUT '/x' from {FAR}: 401 Unauthorized, this request has to be signed: it ")
    shown = [each.strip('":') for each in re.split(r"[=:;, ]", headers["Signature"]) if len(each) > 10]
    assert shown and not any(each in line for each in (*shown, "hunter2", "cGFzc3dvcmQ", "horse", "x" * 40))


@pytest.mark.parametrize(
    "path",
    ["/a\nrefused: forged", "/\x1b[2J", "/\r\x00", "/\u202e".encode().decode("latin-1"), "/\xff", "/" + "a" * 9000],
)
def test_a_client_writes_no_line_of_its_own(app: MediaServer, caplog: Any, path: str) -> None:
    """Names are escaped, and cut where they are long."""
    assert ask(app, "PUT", path, b"x", **STRANGER).status_code in (400, 403)
    (line,) = lines(caplog)
    assert line.isascii() and line.isprintable() and len(line) < 400


def test_a_flood_does_not_fill_the_log(caplog: Any) -> None:
    """Some at once, then one now and then, which says how many were left out."""
    now = 0.0
    refusals = Refusals(lambda: now)
    environ: Any = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/x", "REMOTE_ADDR": FAR}
    for _ in range(1000):
        refusals.tell(environ, Refused("403 Forbidden", "no"))
    assert len(lines(caplog)) == LINES_AT_ONCE
    now = SECONDS_A_LINE
    for _ in range(1000):
        refusals.tell(environ, Refused("403 Forbidden", "no"))
    assert len(lines(caplog)) == LINES_AT_ONCE + 1
    assert lines(caplog)[-1].endswith(f" ({1000 - LINES_AT_ONCE} more were refused since the last such line)")
    caplog.clear()
    now = 1e6
    for _ in range(2):
        refusals.tell(environ, Refused("403 Forbidden", "no"))
    assert ["more were" in line for line in lines(caplog)] == [True, False]


def test_a_write_over_the_wire_is_told_with_its_address(tmp_path: Path, caplog: Any) -> None:
    """As a real server hands it over."""
    with Node(tmp_path / "root", access=Access(["192.0.2.0/24"])) as node:
        assert ask_node(node, "PUT", "/x%0ay", b"x")[0] == 403
        (line,) = eventually(lambda: lines(caplog))
        assert line.startswith(r"refused: PUT '/x\ny' from 127.0.0.1: 403 Forbidden")
