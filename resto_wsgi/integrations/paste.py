"""PasteDeploy, and with it Pyramid's ini files: ``[filter:resto]`` with ``use = egg:resto_wsgi`` and the settings.

All that is text can be said there, of the middleware too; lists are separated by white space or commas. What takes a
function cannot be said in an ini file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Settings
from ..middleware import UploadMiddleware
from ..replicator import Replicator

__all__ = ["make_filter"]


def make_filter(application: Any, global_conf: Mapping[str, str], **local_conf: str) -> UploadMiddleware:
    """Return the application wrapped, with the settings of its section. Raises ConfigError."""
    return UploadMiddleware(application, Replicator(Settings.from_ini(local_conf)))
