"""`resto demo` as a person runs it: real processes, real sockets, nothing left behind."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from demos import listens, processes_of, running
from ports import LOOPBACK, free_port
from servers import eventually

from resto_wsgi.cli.commands import resto
from resto_wsgi.demo import run as demo


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it(number: signal.Signals, tmp_path: Path) -> None:
    """The addresses answer until the signal; then no process, no file and no port is left, and the status is 0."""
    with running(tmp_path, "--port", str(free_port())) as process:
        assert process.stdout is not None
        urls = [re.findall(r"http://\S+", process.stdout.readline())[0] for _ in range(4)]
        assert all(map(listens, urls))
        assert len(processes_of(tmp_path)) == 3
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "has ended" in out
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert not any(map(listens, urls))


def test_a_signal_while_starting_leaves_nothing(tmp_path: Path) -> None:
    """A signal that comes between two starts is not lost."""
    with running(tmp_path, "--port", str(free_port())) as process:
        eventually(lambda: processes_of(tmp_path))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_taken_ports_are_stepped_over(tmp_path: Path) -> None:
    """With the first port taken and one between, the demo takes the next ones and works."""
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(socket.create_server((LOOPBACK, 0)))
        port = taken.getsockname()[1]
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server((LOOPBACK, port + 2)))
        with running(tmp_path, "--port", str(port)) as process:
            assert process.stdout is not None
            urls = [re.findall(r"http://\S+", process.stdout.readline())[0] for _ in range(4)]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    ports = [urlsplit(url).port for url in urls]
    assert ports == sorted(set(ports))
    assert not {port, port + 2} & set(ports)


def test_a_missing_stock_server_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not installed is named, before anything is uploaded."""
    monkeypatch.setattr(demo, "missing", lambda kind: f"the package {kind}")
    result = CliRunner().invoke(resto, ["demo", "--once", "--servers", "nginx", "--port", str(free_port())])
    assert result.exit_code == 2
    assert result.stderr.startswith("resto: --servers nginx needs the package nginx")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_raised_where_it_may_be(number: signal.Signals) -> None:
    """Between two starts it would fall between a start and the note of it; what was there before is there again."""
    before = signal.getsignal(number)
    with demo.Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt), interrupts.raised():
            pytest.fail("what was noted before is raised at once")
    with demo.Interrupts() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.raised():
        signal.raise_signal(number)
        pytest.fail("what comes now is raised now")
    assert signal.getsignal(number) == before


def test_a_second_signal_while_it_ends_is_no_second_exception() -> None:
    """What is being stopped is stopped: a person who is impatient leaves nothing behind either."""
    with demo.Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.raised():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_a_request_that_is_refused_half_way_is_read_to_its_end() -> None:
    """A browser reads no answer while it still sends; one that is gone needs none."""

    class Body:
        def __init__(self, blocks: list[bytes], *, gone: bool = False) -> None:
            self.blocks, self.gone = blocks, gone

        def read(self, limit: int) -> bytes:
            if self.gone:
                raise ConnectionResetError
            return self.blocks.pop(0) if self.blocks else b""

    body = Body([b"x"] * 5)
    demo._read_rest(body)
    assert body.blocks == []
    demo._read_rest(Body([], gone=True))
