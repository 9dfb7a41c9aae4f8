"""The ports that tests pick: no two processes pick the same, so that no test talks to the server of another."""

from __future__ import annotations

import os
import subprocess
import sys

import ports

from resto_wsgi.demo import stock

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TELL = "import ports; from resto_wsgi.demo import stock; print(*ports.PORTS, *stock.PORTS); print(flush=True); input()"


def test_processes_that_live_at_once_have_no_port_in_common() -> None:
    """Four processes beside each other, and this one: each port is in one part alone."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TELL], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    parts = [{*ports.PORTS, *stock.PORTS}]
    for process in started:
        assert process.stdout is not None
        parts.append(set(map(int, process.stdout.readline().split())))
    for process in started:
        process.communicate("\n", timeout=20)
    assert all(len(part) > 200 for part in parts)
    assert len(set().union(*parts)) == sum(map(len, parts))


def test_a_port_comes_again_only_after_all_others() -> None:
    """A server that is stopped for a while finds its port free."""
    given = [ports.free_port() for _ in range(len(ports.PORTS) // 2)]
    assert len(set(given)) == len(given)
