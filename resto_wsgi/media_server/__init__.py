"""Our own media server: a folder that is served over HTTP, alone or as a node of a tree.

``MediaServer`` is the WSGI application, which any server can run. ``make_server`` makes the HTTP server that
``resto media-server`` runs it with; that comes with the extra ``[server]``, and is imported only when one is made.
``files`` is what is on the disk, ``tree`` what nodes say to one another, ``pages`` what a node shows of itself.
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
    ``options`` are those of ``http_server.Server``. Raises ConfigError if cheroot is not installed, or a certificate
    cannot be used.
    """
    try:
        from .http_server import Server
    except ImportError as error:
        raise ConfigError(
            "media server", "needs the extra [server]: pip install 'resto_wsgi[server]', or '.[server]' in a clone"
        ) from error
    return Server(app, host, port, **options)
