"""The media server as ``node_app:application``, for WSGI servers that are processes; its root is NODE_ROOT."""

from __future__ import annotations

import os

from resto_wsgi.media_server import Access, MediaServer

application = MediaServer(os.environ["NODE_ROOT"], access=Access(["127.0.0.1"]))
