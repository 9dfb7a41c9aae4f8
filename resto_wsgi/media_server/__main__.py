"""``python -m resto_wsgi.media_server --root DIR --listen HOST:PORT``: serve DIR until SIGTERM or SIGINT, exit 0."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from ..errors import RestoError
from . import make_server
from .access import LOOPBACK, Access
from .node import MediaServer

STEP = 1.0  # seconds between two looks whether the server still runs


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal; return the exit status: 0, or 1 where it could not start."""
    options = _parser().parse_args(arguments)
    host, port = options.listen
    stop = threading.Event()
    try:
        server = make_server(MediaServer(options.root, access=Access(options.writer or LOOPBACK)), host, port)
        server.prepare()
    except (RestoError, OSError) as error:
        print(f"media server: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    shown_host = f"[{host}]" if ":" in host else host
    print(f"media server http://{shown_host}:{server.bind_addr[1]}/ of {options.root}", flush=True)
    thread = threading.Thread(target=server.serve, name="media server", daemon=True)
    thread.start()
    while thread.is_alive() and not stop.wait(STEP):
        pass
    server.stop()
    thread.join()
    return 0 if stop.is_set() else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m resto_wsgi.media_server", description="Serve a folder of media.")
    parser.add_argument("--root", required=True, metavar="DIR", help="the folder; made where it is missing")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", type=_address, help="port 0 picks a free one")
    parser.add_argument(
        "--writer",
        action="append",
        metavar="NETWORK",
        help=f"who may write, such as 10.0.0.0/8; may be repeated; default: {' '.join(LOOPBACK)}",
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"wanted HOST:PORT, found {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
