"""Media servers: our own (``node.py`` and what it stands on), and stock ones for trying things out (``stock.py``).

``resto media-server`` serves a folder with ours. The HTTP server comes with the extra ``[server]`` and is imported
only when one is made, so that any other WSGI server can run a ``MediaServer``.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .access import Access
from .node import MediaServer
from .tree.relay import TIMEOUT

__all__ = ["TIMEOUT", "Access", "MediaServer", "make_server"]


def make_server(app: Any, host: str, port: int, **options: Any) -> Any:
    """Return a ``cheroot.wsgi.Server`` of the WSGI application ``app``, not listening yet; port 0 picks a free one.

    ``prepare()`` listens, ``serve()`` answers until another thread calls ``stop()``, ``bind_addr`` is the address.
    ``options`` are those of ``http_server.Server``. Raises ConfigError where cheroot is not installed, or a
    certificate cannot be used.
    """
    try:
        from .http_server import Server
    except ImportError as error:
        raise ConfigError("media server", "needs cheroot: pip install 'resto_wsgi[server]'") from error
    return Server(app, host, port, **options)
