"""What the HTTP server says of itself: seldom, and its own faults in full."""

from __future__ import annotations

import pytest

from resto_wsgi.media_server.server_log import ServerLog


def failing(log: ServerLog, error: Exception) -> None:
    def fail() -> None:
        raise error

    try:
        fail()
    except Exception:
        log.write("it failed", traceback=True)


def test_a_flood_is_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """With how many were left out, and no traceback of what a client can cause."""
    now = [0.0]
    log = ServerLog(lambda: now[0])
    for _ in range(1000):
        failing(log, ConnectionResetError("gone"))
    now[0] = 60.0
    failing(log, ConnectionResetError("gone"))
    assert capsys.readouterr().err == "it failed\nit failed (999 more like it since the last such line)\n"


def test_a_fault_of_ours_is_told_in_full_beside_a_flood(capsys: pytest.CaptureFixture[str]) -> None:
    """Once a minute."""
    log = ServerLog(lambda: 0.0)
    failing(log, OSError("gone"))
    for _ in range(10):
        failing(log, RuntimeError("a fault"))
    said = capsys.readouterr().err
    assert said.count("Traceback") == 1 and "RuntimeError: a fault" in said


def test_what_a_client_chose_breaks_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Escaped and cut off."""
    ServerLog().write("x\r\ny\x1b" + "z" * 10_000)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and len(said) < 300 and "\x1b" not in said
