"""The application that gunicorn serves: one Flask view that stores the file it was sent, with us or with django-resto.

``ROOT``, ``HOSTS`` and ``FSYNC`` come from the environment. gunicorn calls ``ours`` or ``django_resto`` in each worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

__all__ = ["django_resto", "ours"]


def ours() -> Any:
    from flask import request
    from resto_wsgi import UploadMiddleware

    def store() -> list[str]:
        return [upload.name for upload in request.environ["resto.uploads"]]

    settings = {"media_root": os.environ["ROOT"], "media_hosts": os.environ["HOSTS"].split(",")}
    return UploadMiddleware(_application(store), **settings, publish="on_success", fsync=os.environ["FSYNC"] == "True")


def django_resto() -> Any:
    from flask import request

    from .django_resto_peer import hybrid_storage

    storage = hybrid_storage(os.environ["ROOT"], os.environ["HOSTS"].split(","))

    def store() -> list[str]:
        folder = time.strftime("uploads/%Y/%m", time.gmtime())
        return [storage.save(f"{folder}/{file.filename}", file.stream) for file in request.files.getlist("file")]

    return _application(store)


def _application(store: Callable[[], list[str]]) -> Any:
    from flask import Flask

    app = Flask(__name__)

    @app.post("/")
    def upload() -> dict[str, list[str]]:
        return {"names": store()}

    return app
