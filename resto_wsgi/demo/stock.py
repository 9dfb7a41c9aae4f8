"""Starts stock nginx, lighttpd or Apache as a media server on a loopback port, for the demo and for the tests.

The configurations here let anybody on this machine write, so production configurations are not its business. Each
server gets a folder of its own: ``files`` in it is what the server serves and writes, beside it are its
configuration, its error log and its temporary files. No configuration names that folder, which is the
server's working directory, so no path has to be quoted. A server that was started is stopped, with all its
workers, by ``stop``, by ``kill``, or when this process exits.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import RestoError
from ..forks import Process, this_process

__all__ = ["SERVERS", "StockServer", "missing", "package_of"]

LOOPBACK = "127.0.0.1"
PORTS = range(20000, 32000)  # below what Linux gives to outgoing connections, so that none takes a stopped one's port
_turn = itertools.count(secrets.randbelow(len(PORTS)))  # and no server of this process either, until all had their turn
START_WITHIN = 10.0  # seconds; a start takes 0.1 s
STOP_WITHIN = 5.0  # seconds from SIGTERM to SIGKILL
LOOKS_EVERY = 0.01  # seconds

# The folder of a server, as the server itself sees it. One that gave up root needs no permission on the folders above.
FOLDER = "/proc/self/cwd"

SBIN = "/usr/sbin"  # the packages put the programs here; it is not in the PATH of an ordinary user
APACHE_MODULES = "/usr/lib/apache2/modules"
LIGHTTPD_MODULES = "/usr/lib/lighttpd"
APACHE_USER = "www-data"

TYPES = {
    "css": "text/css",
    "gif": "image/gif",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "webp": "image/webp",
}


def package_of(kind: str) -> str:
    """Return the Debian packages that hold ``kind``, as ``apt install`` takes them."""
    return _kind(kind).packages


def missing(kind: str) -> str | None:
    """Return None if ``kind`` can be started, else what is missing and how to install it, in one line."""
    server = _kind(kind)
    if _program(server) and os.path.exists(server.module):
        return None
    lacking = f"module {os.path.basename(server.module)}" if _program(server) else f"program {server.program}"
    return f"the {lacking}, which is not installed: apt install {server.packages}"


class StockServer:
    """One media server of ``kind`` in ``folder``, which is made if it is missing.

    ``port`` 0 picks a free port at the first start; every later start has the same one. ``full_put_path`` False
    makes nginx refuse a PUT whose folder is missing, as lighttpd and Apache always do. ``max_body`` is the largest
    body in bytes (lighttpd rounds it up to KiB), None for no limit. ``extra`` is added to the configuration: to
    nginx's server block, to the main part of the others.

    ``root`` is the folder that is served, ``url`` the address of it without a slash at the end, ``error_log`` a path.
    """

    def __init__(
        self,
        kind: str,
        folder: str | os.PathLike[str],
        port: int = 0,
        *,
        full_put_path: bool = True,
        max_body: int | None = None,
        extra: str = "",
    ) -> None:
        self._server = _kind(kind)
        self.kind = kind
        self.folder = os.path.abspath(folder)
        self.root = os.path.join(self.folder, "files")
        self.error_log = os.path.join(self.folder, "error.log")
        self.port = port
        self.full_put_path = full_put_path
        self.max_body = max_body
        self.extra = extra
        self._pid_file = os.path.join(self.folder, "server.pid")
        self._log_size = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: Process | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process that was started, which leads a group of its own with its workers in it; None when stopped."""
        return self._process.pid if self._process else None

    def __enter__(self) -> StockServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when the server answers HTTP.

        Raises RestoError, with the end of the error log, if it does not within 10 seconds.
        """
        if self._process:
            raise RestoError(f"{self.kind} at {self.url} was started already")
        if lacking := missing(self.kind):
            raise RestoError(f"{self.kind} cannot be started: it needs {lacking}")
        self._make_folders()
        deadline = time.monotonic() + START_WITHIN
        fixed = self.port
        while True:
            self.port = fixed or _free_port()
            self._launch()
            try:
                problem = self._wait_until_ready(deadline)
            except BaseException:
                self._end()
                raise
            if problem is None:
                return
            self._end()
            if fixed or not self._port_was_taken() or time.monotonic() > deadline:
                raise RestoError(f"{self.kind} {problem}: {self._log_end()}")

    def stop(self) -> None:
        """End the server in order, and by force if it takes longer than 5 seconds. Safe to repeat."""
        if self._process:
            os.kill(self._process.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_WITHIN
            while not self._ended() and time.monotonic() < deadline:
                time.sleep(LOOKS_EVERY)
            self.kill()

    def kill(self) -> None:
        """End the server and its workers at once, as a crash would. Safe to repeat."""
        if self._process:
            self._end()
            deadline = time.monotonic() + STOP_WITHIN
            while _connects(self.port) and time.monotonic() < deadline:
                time.sleep(LOOKS_EVERY)

    def restart(self) -> None:
        """Stop and start, on the same port and with the same files."""
        self.stop()
        self.start()

    def _make_folders(self) -> None:
        for path in (self.folder, self.root, *(os.path.join(self.folder, own) for own in ("staging", "locks"))):
            os.makedirs(path, exist_ok=True)
        if self.kind == "apache" and os.geteuid() == 0:
            owner = pwd.getpwnam(APACHE_USER)  # Apache refuses to serve as root
            for folder, folders, files in os.walk(self.folder):
                for entry in (".", *folders, *files):
                    os.chown(os.path.join(folder, entry), owner.pw_uid, owner.pw_gid, follow_symlinks=False)

    def _launch(self) -> None:
        with open(os.path.join(self.folder, "server.conf"), "w", encoding="utf-8") as file:
            file.write(self._server.configure(self))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._pid_file)
        with open(self.error_log, "ab") as log:
            self._log_size = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - a program of the table below, without a shell
                [_program(self._server) or self._server.program, *self._server.arguments],
                cwd=self.folder,
                env={"LC_ALL": "C", "PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._owner = this_process()
        atexit.register(self._stop_at_exit)

    def _wait_until_ready(self, deadline: float) -> str | None:
        """Return None when the server answers, else what went wrong."""
        while not (self._listens() and _answers(self.port)):
            if self._ended():
                return "ended while starting"
            if self._port_was_taken():  # nginx goes on trying for 2.5 s
                return f"found port {self.port} taken"
            if time.monotonic() > deadline:
                return f"did not answer within {START_WITHIN:.0f} s"
            time.sleep(LOOKS_EVERY)
        return None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            # Nobody has waited for the leader yet, so its number still belongs to this group and to no other.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            atexit.unregister(self._stop_at_exit)

    def _listens(self) -> bool:
        # All three write this file after they took the port, so an answer is theirs and no stranger's.
        with contextlib.suppress(FileNotFoundError), open(self._pid_file, encoding="ascii") as file:
            return file.read().strip() == str(self.pid)
        return False

    def _ended(self) -> bool:
        """Say whether the started process ended, without reaping it."""
        process = self._process
        return process is None or bool(os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def _port_was_taken(self) -> bool:
        return "Address already in use" in self._log()

    def _log(self) -> str:
        """Return what was logged since the last start."""
        with open(self.error_log, encoding="utf-8", errors="replace") as file:
            file.seek(self._log_size)
            return file.read()

    def _log_end(self) -> str:
        return " | ".join(self._log().strip().splitlines()[-5:]) or f"it logged nothing to {self.error_log}"

    def _stop_at_exit(self) -> None:
        if this_process() == self._owner:  # a fork that exits comes here too
            self.stop()


def _nginx(server: StockServer) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    types = " ".join(f"{kind} {ending};" for ending, kind in TYPES.items())
    return f"""\
daemon off;
{user}
worker_processes 1;
pid server.pid;
error_log error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    log_not_found off;
    types {{ {types} }}
    default_type application/octet-stream;
    client_body_temp_path staging;  # on the file system of the root, or the last step is no rename
    proxy_temp_path unused;
    fastcgi_temp_path unused;
    uwsgi_temp_path unused;
    scgi_temp_path unused;
    client_max_body_size {server.max_body or 0};
    server {{
        listen {LOOPBACK}:{server.port};
        root files;
        dav_methods PUT DELETE MKCOL;
        dav_access user:rw group:r all:r;
        create_full_put_path {"on" if server.full_put_path else "off"};
        {server.extra}
    }}
}}
"""


def _lighttpd(server: StockServer) -> str:
    types = ", ".join(f'".{ending}" => "{kind}"' for ending, kind in TYPES.items())
    return f"""\
server.modules = ( "mod_webdav" )
server.bind = "{LOOPBACK}"
server.port = {server.port}
server.pid-file = "server.pid"
server.errorlog = "error.log"
server.document-root = "{FOLDER}/files"  # from "files" it reads nothing: 500
server.upload-dirs = ( "staging" )
server.max-request-size = {-(-(server.max_body or 0) // 1024)}
server.stat-cache-engine = "disable"  # files are also changed behind its back
mimetype.assign = ( {types} )
webdav.activate = "enable"
webdav.is-readonly = "disable"
{server.extra}
"""


def _apache(server: StockServer) -> str:
    modules = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so"
        for name in ("mpm_event", "authz_core", "mime", "dav", "dav_fs")
    )
    user = f"User {APACHE_USER}\nGroup {APACHE_USER}" if os.geteuid() == 0 else ""
    types = "\n".join(f"AddType {kind} .{ending}" for ending, kind in TYPES.items())
    return f"""\
{modules}
ServerRoot {FOLDER}
ServerName {LOOPBACK}
Listen {LOOPBACK}:{server.port}
{user}
PidFile server.pid
ErrorLog error.log
DefaultRuntimeDir .
StartServers 1
ServerLimit 2
ThreadsPerChild 25
MinSpareThreads 5
MaxSpareThreads 50
MaxRequestWorkers 50
DocumentRoot files
DavLockDB locks/dav
LimitRequestBody {server.max_body or 0}
TypesConfig /dev/null
{types}
<Directory />
    Options FollowSymLinks
    AllowOverride None
    Require all granted
</Directory>
<Location />
    Dav On
</Location>
{server.extra}
"""


@dataclass(frozen=True)
class _Kind:
    """How one server is found, configured and started: in the foreground, so that its process is the one started."""

    program: str
    module: str  # a file without which it cannot do its work
    packages: str
    arguments: tuple[str, ...]
    configure: Callable[[StockServer], str]


_KINDS = {
    "nginx": _Kind("nginx", "/", "nginx", ("-p", ".", "-c", "server.conf", "-e", "error.log"), _nginx),
    "lighttpd": _Kind(
        "lighttpd",
        f"{LIGHTTPD_MODULES}/mod_webdav.so",
        "lighttpd lighttpd-mod-webdav",
        ("-D", "-f", "server.conf"),
        _lighttpd,
    ),
    "apache": _Kind(
        "apache2",
        f"{APACHE_MODULES}/mod_dav_fs.so",
        "apache2",
        ("-D", "FOREGROUND", "-d", FOLDER, "-f", "server.conf"),
        _apache,
    ),
}
SERVERS = tuple(_KINDS)


def _kind(kind: str) -> _Kind:
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is not one of {', '.join(_KINDS)}")
    return _KINDS[kind]


def _program(server: _Kind) -> str | None:
    folders = [folder for folder in (*os.environ.get("PATH", "").split(os.pathsep), SBIN) if folder]
    return shutil.which(server.program, path=os.pathsep.join(folders))


def _free_port() -> int:
    while True:
        port = PORTS[next(_turn) % len(PORTS)]
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port


def _connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1) as connection:
        connection.sendall(b"OPTIONS / HTTP/1.0\r\n\r\n")
        return connection.recv(5) == b"HTTP/"
    return False
