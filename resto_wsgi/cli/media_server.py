"""``resto media-server``: what its options and the environment say, and a server that runs until it is told to end.

Secrets come from a file or from the environment, never from the command line, which every user of the machine can
read. Nothing of them is printed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, MediaRootError, NameRejected, shown
from ..media_server import TIMEOUT, Access, MediaServer, make_server
from ..trust.secret_files import Reread, read
from ..trust.signatures import Key, parse_keys
from .catching_up import catch_up

__all__ = ["Options", "serve"]

SECRET = "RESTO_SECRET"  # noqa: S105 - the name of a variable
SECRET_FILE = "RESTO_SECRET_FILE"  # noqa: S105 - the name of a variable
CREDENTIALS = {key: f"RESTO_{key.upper()}" for key in ("ca_bundle", "client_cert", "client_key", "credentials_file")}
LOOKS_EVERY = 1.0  # seconds: whether the server still runs


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command was told; see its help."""

    root: str
    listen: tuple[str, int]
    allow: Sequence[str]
    allow_anyone: bool
    secret_file: str | None
    names: Sequence[str]
    tls_cert: str | None
    tls_key: str | None
    client_ca: str | None
    inline: bool
    linked_folders: Sequence[str] = ()
    threads: int
    timeout: float
    children: Sequence[str] = ()
    child_timeout: float = TIMEOUT
    outbox: str | None = None
    heal: bool = False
    catch_up_from: str | None = None
    limit_rate: float | None = None


def serve(options: Options, environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status: 0, or 1 if the server ended by itself.

    Raises ConfigError if the options contradict each other or cannot be used, or if the address is taken.
    """
    access = _access(options, environ)
    host, port = options.listen
    stop: queue.SimpleQueue[int] = queue.SimpleQueue()  # an Event, set in a handler while it is waited for, would hang
    shown = {key: environ[name] for key, name in CREDENTIALS.items() if environ.get(name)}
    application = _application(options, access, shown)
    if options.catch_up_from is not None:
        catch_up(application, options.catch_up_from, options.limit_rate, shown)
    server = make_server(application, host, port, threads=options.threads, timeout=options.timeout, tls=_tls(options))
    try:
        server.prepare()
    except OSError as error:
        raise ConfigError("listen", f"cannot: {error}") from error
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stop.put(number))
    shown_host = f"[{host}]" if ":" in host else host
    scheme = "https" if options.tls_cert else "http"
    print(f"media server {scheme}://{shown_host}:{server.bind_addr[1]}/ of {options.root}", flush=True)
    if not access.is_open:
        print("nobody may write: --allow 127.0.0.1 lets this machine, a proxy on it included", flush=True)
    application.start()
    thread = threading.Thread(target=server.serve, name="media server", daemon=True)
    thread.start()
    stopped = False
    while thread.is_alive() and not stopped:
        with contextlib.suppress(queue.Empty):
            stopped = bool(stop.get(timeout=LOOKS_EVERY))
    server.stop()
    thread.join()
    application.close()
    return 0 if stopped else 1


def _application(options: Options, access: Access, credentials: Mapping[str, str]) -> MediaServer:
    try:
        return MediaServer(
            options.root,
            access=access,
            inline=options.inline,
            linked_folders=options.linked_folders,
            children=options.children,
            timeout=options.child_timeout,
            outbox=options.outbox and os.path.abspath(options.outbox),
            heal=options.heal,
            credentials=credentials,
        )
    except NameRejected as error:
        raise ConfigError("linked-folder", f"{shown(error.name)} {error.reason}") from error
    except (OSError, MediaRootError) as error:
        raise ConfigError("root", f"cannot be used: {error.strerror or error}") from error


def _access(options: Options, environ: Mapping[str, str]) -> Access:
    if options.client_ca and not options.tls_cert:
        raise ConfigError("client-ca", "needs --tls-cert and --tls-key")
    return Access(
        options.allow or None,
        keys=_keys(options.secret_file, environ),
        authorities=options.names,
        certificates=bool(options.client_ca),
        anyone=options.allow_anyone,
    )


def _keys(path: str | None, environ: Mapping[str, str]) -> Sequence[Key] | Callable[[], Sequence[Key]]:
    if path is None and SECRET in environ:
        return parse_keys(environ[SECRET], SECRET)
    file = path or environ.get(SECRET_FILE)
    if file is None:
        return ()
    return Reread(file, lambda: parse_keys(read("secret-file", file, group=True), file))


def _tls(options: Options) -> Any:
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ConfigError("tls-cert", "and --tls-key need each other")
    if options.tls_cert is None or options.tls_key is None:
        return None
    try:
        from ..media_server.http_server import Tls
    except ImportError:
        return None  # ``make_server`` says what is missing
    return Tls(options.tls_cert, options.tls_key, options.client_ca)
