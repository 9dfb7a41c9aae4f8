"""Media servers: our own small node (`node.py`), and stock ones for trying things out (`stock.py`).

``python -m resto_wsgi.media_server`` serves a folder with the node. The HTTP server comes with the extra
``[server]`` and is imported only when one is made.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError

__all__ = ["make_server"]

BACKLOG = 128  # connections that wait to be accepted; cheroot's 5 turns some away when every host is written at once
HEADERS = 64 * 1024  # bytes of all headers of a request; cheroot would keep any number of them in memory


def make_server(app: Any, host: str, port: int) -> Any:
    """Return a ``cheroot.wsgi.Server`` of the WSGI application ``app``, not listening yet; port 0 picks a free one.

    ``prepare()`` listens, ``serve()`` answers until another thread calls ``stop()``, ``bind_addr`` is the address.
    Raises ConfigError where cheroot is not installed.
    """
    try:
        from cheroot.wsgi import Server
    except ImportError as error:
        raise ConfigError("media server", "needs cheroot: pip install 'resto_wsgi[server]'") from error
    server = Server((host, port), app, request_queue_size=BACKLOG)
    server.max_request_header_size = HEADERS
    return server
