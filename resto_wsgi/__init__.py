"""Uploads that are safe on more than one server: a WSGI middleware and a library that replicate files over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import Settings
from .errors import (
    ConfigError,
    DeliveryError,
    MediaRootError,
    NameRejected,
    OutboxError,
    ReplicationError,
    RestoError,
    UploadRejected,
)
from .replicator import Replicator, Stored

if TYPE_CHECKING:
    from .middleware import UploadMiddleware
    from .upload.uploads import Upload, Uploads, uploads_of

__all__ = [
    "ConfigError",
    "DeliveryError",
    "MediaRootError",
    "NameRejected",
    "OutboxError",
    "ReplicationError",
    "Replicator",
    "RestoError",
    "Settings",
    "Stored",
    "Upload",
    "UploadMiddleware",
    "UploadRejected",
    "Uploads",
    "uploads_of",
]


def __getattr__(name: str) -> Any:
    """Load the middleware's side, and with it WebOb, when it is first asked for."""
    if name == "UploadMiddleware":
        from .middleware import UploadMiddleware

        return UploadMiddleware
    if name in ("Upload", "Uploads", "uploads_of"):
        from .upload import uploads

        return getattr(uploads, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
