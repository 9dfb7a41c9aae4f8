"""The application under chaos, served by gunicorn: saves and deletes names that its clients choose, and uploads.

    POST /save?name=N      the body, by ``Replicator.save(overwrite=True)``
    POST /delete?name=N    by ``Replicator.delete``
    POST /upload           a multipart form, caught by the middleware, which makes the name
    GET /health            what a load balancer asks

``X-Effect`` says what the product promises with its answer: done, none or perhaps. ``X-Name`` is the upload's name.
"""

from __future__ import annotations

import os
import traceback
from typing import Any
from urllib.parse import parse_qs

from resto_wsgi import MediaRootError, OutboxError, ReplicationError, Replicator, Settings, UploadMiddleware

Answer = tuple[str, str, str]  # status, effect, name

replicator = Replicator(Settings.from_environ(os.environ))


def view(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer a request with what the product promised."""
    name = parse_qs(environ.get("QUERY_STRING", "")).get("name", [""])[0]
    try:
        status, effect, name = ROUTES[environ["PATH_INFO"]](environ, name)
    except Exception as error:
        traceback.print_exc()
        status, effect, name = f"500 {type(error).__name__}", "perhaps", name
    start_response(status, [("X-Effect", effect), ("X-Name", name), ("Content-Length", "0")])
    return []


def save(environ: dict[str, Any], name: str) -> Answer:
    """Save the body. A refusal is a promise that nothing of it stays."""
    length = int(environ["CONTENT_LENGTH"])
    body = environ["wsgi.input"].read(length)
    if len(body) != length:
        return "400 Short", "none", name
    try:
        replicator.save(name, body, overwrite=True)
    except (ReplicationError, MediaRootError, OutboxError) as error:
        return _status(error), "none", name
    return "200 OK", "done", name


def delete(environ: dict[str, Any], name: str) -> Answer:
    """Delete. Too few hosts is no refusal: it stays owed."""
    try:
        replicator.delete(name)
    except ReplicationError as error:
        return _status(error), "done", name
    except (MediaRootError, OutboxError) as error:
        return _status(error), "perhaps", name
    return "200 OK", "done", name


def upload(environ: dict[str, Any], name: str) -> Answer:
    """Tell the client the name that the middleware gave; what becomes of it is the middleware's answer."""
    return "200 OK", "done", environ["resto.uploads"][0].name


def health(environ: dict[str, Any], name: str) -> Answer:
    """Look at the master, as a site does that serves anything at all."""
    replicator.exists("health")
    return "200 OK", "none", name


def _status(error: Exception) -> str:
    if isinstance(error, ReplicationError):
        return "503 ReplicationError"
    return f"{507 if getattr(error, 'full', False) else 500} {type(error).__name__}"


ROUTES = {"/save": save, "/delete": delete, "/upload": upload, "/health": health}

application = UploadMiddleware(view, replicator, paths=["/upload"], upload_to="uploads")
