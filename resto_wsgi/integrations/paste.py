"""PasteDeploy, and with it Pyramid's ini files: ``[filter:resto]`` with ``use = egg:resto_wsgi`` and the settings.

What an ini file can say of the middleware itself is said there too: ``handoff``, ``fields``, ``paths``, the limits and
so on, lists separated by white space. What takes a function cannot be said in an ini file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Settings
from ..errors import ConfigError
from ..middleware import LIMITS, UploadMiddleware
from ..replicator import Replicator

__all__ = ["make_filter"]

WORDS = frozenset({"handoff", "publish", "upload_to", "naming"})
LISTS = frozenset({"fields", "paths", "allowed_types", "allowed_extensions"})


def make_filter(application: Any, global_conf: Mapping[str, str], **local_conf: str) -> UploadMiddleware:
    """Return the application wrapped, with the settings of its section. Raises ConfigError."""
    options: dict[str, Any] = {}
    settings: dict[str, str] = {}
    for key, text in local_conf.items():
        if key in LISTS:
            options[key] = text.split()
        elif key in LIMITS:
            options[key] = _number(key, text)
        else:
            (options if key in WORDS else settings)[key] = text
    return UploadMiddleware(application, Replicator(Settings.from_ini(settings)), **options)


def _number(key: str, text: str) -> int | float:
    try:
        return int(text) if text.strip().isdecimal() else float(text)
    except ValueError:
        raise ConfigError(key, "takes a positive number") from None
