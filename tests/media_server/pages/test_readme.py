"""The commands for this very node."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from node_requests import ask as ask_app
from servers import Tree, eventually
from trees import ask, held, settled

from resto_wsgi.media_server import Access, MediaServer


def test_the_commands_of_the_readme_work_as_they_are_pasted(tree: Tree) -> None:
    """All of them, in their order, in a shell: each is answered, and at the end nothing is left."""
    status, headers, text = ask(tree, "GET", "/__readme.txt")
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    commands = [line for line in text.decode().splitlines() if line.startswith("curl ")]
    assert len(commands) == 12
    for command in commands:
        done = subprocess.run(["bash", "-c", f"{command} --fail"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, (command, done)
        if "application/json" in command:
            json.loads(done.stdout)
    eventually(lambda: settled(tree))
    assert [held(node) for node in tree.nodes] == [{}] * 7


def test_the_address_in_the_commands_is_a_host_and_nothing_else(tmp_path: Path) -> None:
    """A Host header that would put a command of its own into the shell is not repeated."""
    app = MediaServer(tmp_path / "root", access=Access(["10.0.0.9", "127.0.0.1"]))
    for host in ("x; rm -rf /", "$(reboot)", "x\r\ny", "`x`"):
        text = ask_app(app, "GET", "/__readme.txt", HTTP_HOST=host, REMOTE_ADDR="10.0.0.9").body.decode()
        assert host not in text and re.search(r"http://[a-z0-9.:-]+/__missing__\n", text)
        for called in (f"http://{host}", f"http://media-01/{host}"):
            text = ask_app(app, "GET", "/__readme.txt", HTTP_RESTO_CALLED=called, REMOTE_ADDR="10.0.0.9").body.decode()
            assert host not in text and re.search(r"http://[a-z0-9.:-]+/__missing__\n", text)
    reply = ask_app(app, "GET", "/__readme.txt", HTTP_RESTO_CALLED="https://media-01:8080/media")
    assert reply.headers["Cache-Control"] == "no-store", "it is for writers, and for this one alone"
    text = reply.body.decode()
    assert "https://media-01:8080/media/__missing__\n" in text
