"""Servers that run exactly what `resto config` printed, on loopback ports, as the user that they would run as.

A folder of such a server is no ``tmp_path``, into which only the user of the tests can look.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import urllib3
from ports import LOOPBACK, free_port
from servers import eventually, need

STRANGER = "127.0.0.2"  # another address of this machine, from which nothing but reading is allowed
RESTO = [sys.executable, "-c", "from resto_wsgi.cli import main; main()"]
USER = "www-data"
COMMANDS = {
    "nginx": ["nginx", "-g", "daemon off;", "-e", "stderr", "-c"],
    "lighttpd": ["lighttpd", "-D", "-f"],
    "apache": ["apache2", "-D", "FOREGROUND", "-f"],
}
CHECKS = {"nginx": ["nginx", "-e", "stderr", "-t", "-c"], "lighttpd": ["lighttpd", "-tt", "-f"]}
CHECKS["apache"] = ["apache2", "-t", "-f"]
CLEAN = {"lighttpd": "", "apache": "Syntax OK\n"}
ENVIRON = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin", "LC_ALL": "C"}


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the servers' user can enter, and owns; it is removed."""
    path = Path(tempfile.mkdtemp(prefix="resto-config-"))
    try:
        path.chmod(0o755)
        own(path)
        yield path
    finally:
        shutil.rmtree(path)


def own(*paths: Path) -> None:
    """Give paths to the servers' user, where the tests run as root."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(USER)
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)


def user() -> str:
    """Return the user for ``--user``: none where the tests cannot become another."""
    return USER if os.geteuid() == 0 else ""


def resto(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `resto` with these settings alone."""
    inherited = {key: value for key, value in ENVIRON.items() if not key.startswith(("RESTO_", "MEDIA_"))}
    return subprocess.run([*RESTO, *arguments], env=inherited | environ, capture_output=True, text=True, timeout=60)


def printed(*arguments: str, **environ: str) -> str:
    """Return what `resto config` printed, which went well."""
    done = resto("config", *arguments, **environ)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


class Printed:
    """A server of ``kind`` in ``folder`` that is started with the text of a configuration."""

    def __init__(self, kind: str, folder: Path, port: int = 0, scheme: str = "http") -> None:
        need(kind)
        self.kind = kind
        self.folder = folder
        self.root = folder / "root"
        self.run = folder / "run"
        self.port = port or free_port()
        self.label = f"{LOOPBACK}:{self.port}"
        self.url = f"{scheme}://{self.label}/media"
        self._process: subprocess.Popen[bytes] | None = None
        for each in (folder, self.root, self.run, self.root / ".temp"):
            each.mkdir(exist_ok=True)
            own(each)

    def options(self) -> list[str]:
        """The options that put a server here, and let this machine's first address write."""
        return ["--allow", LOOPBACK, "--root", str(self.root), "--run", str(self.run), "--user", user()]

    def configure(self, *options: str, **environ: str) -> Printed:
        """Have `resto config` print the configuration, check it, and start the server with it."""
        listen = [] if "--host" in options else ["--listen", self.label]
        self.start(printed(self.kind, *self.options(), *listen, *options, **environ))
        return self

    def check(self, text: str) -> None:
        """Have the server itself judge a configuration: not a warning."""
        conf = self.folder / "conf"
        conf.write_text(text, encoding="utf-8")
        done = subprocess.run([*CHECKS[self.kind], str(conf)], env=ENVIRON, capture_output=True, text=True, timeout=30)
        said = (
            f"nginx: the configuration file {conf} syntax is ok\nnginx: configuration file {conf} test is successful\n"
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, CLEAN.get(self.kind, said)), done.stderr + text

    def start(self, text: str | None = None) -> None:
        if text is not None:
            self.check(text)
        command = [*COMMANDS[self.kind], str(self.folder / "conf")]
        with open(self.folder / "what the server says", "ab") as log:
            self._process = subprocess.Popen(command, env=ENVIRON, stdout=log, stderr=log, start_new_session=True)
        eventually(lambda: self._process.poll() is not None or listens(self.port))
        assert self._process.poll() is None, (self.folder / "what the server says").read_text()

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            eventually(lambda: not listens(self.port))

    def __enter__(self) -> Printed:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def put(self, name: str, content: bytes) -> Path:
        """Place a file as a transfer behind the server's back would."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def received(self) -> list[str]:
        """Where the server has what is coming in: its open files below its folder, with a name or without."""
        assert self._process is not None
        group, found = self._process.pid, []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.getpgid(int(entry)) == group:
                    fds = f"/proc/{entry}/fd"
                    found += [os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)]
        return [each for each in found if each.startswith(f"{self.folder}/")]

    def files(self) -> dict[str, bytes]:
        """Every file that is no temporary one."""
        found = [path for path in self.root.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in found}


def printed_server(stack: ExitStack, kind: str = "nginx", **options: Any) -> Printed:
    """One server in a folder of its own, not started."""
    return stack.enter_context(Printed(kind, stack.enter_context(open_folder()), **options))


def with_tls(server: Printed, certificates: Path) -> list[str]:
    """Put certificate and key beside the server, and return the options."""
    for name in ("server.pem", "server.key", "ca.pem"):
        own_copy = server.folder / name
        own_copy.write_bytes((certificates / name).read_bytes())
        own(own_copy)
    return ["--certificate", f"{server.folder}/server.pem", "--key", f"{server.folder}/server.key"]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def ask(
    method: str,
    url: str,
    body: bytes | None = None,
    *,
    source: str = LOOPBACK,
    headers: Mapping[str, str] | None = None,
    **tls: Any,
) -> urllib3.BaseHTTPResponse:
    """Return the answer to one request from an address of this machine, its path sent as it is."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, _, port = authority.rpartition(":")
    pool = urllib3.HTTPSConnectionPool if scheme == "https" else urllib3.HTTPConnectionPool
    with pool(host, int(port), source_address=(source, 0), timeout=20, retries=False, **tls) as connections:
        return connections.request(method, slash + path, body=body, headers=headers, redirect=False)
