"""Which requests are under one of the paths that a site has named.

Frameworks do not agree on what a path is: some take dot segments and double slashes out of it, some drop bytes that are
no UTF-8. So a request is under a path if it is so in any of these readings: to look at a form too many harms nobody.
Strings only. The middleware calls this.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["is_below"]


def is_below(environ: Mapping[str, Any], paths: Iterable[str]) -> bool:
    """True if a request is for one of the paths or below it: "/photos/1" is below "/photos", "/photoshop" is not."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    octets = path.encode("latin-1")  # PEP 3333: each character is a byte
    readings = {octets.decode("utf-8", errors) for errors in ("replace", "ignore")}
    readings |= {_normal(reading) for reading in readings}
    return any(reading == each or reading.startswith(each.rstrip("/") + "/") for reading in readings for each in paths)


def _normal(path: str) -> str:
    """Return a path without dot segments and double slashes; a slash at its end stays."""
    normal = posixpath.normpath("/" + path.lstrip("/"))
    return normal + "/" if path.endswith("/") and normal != "/" else normal
