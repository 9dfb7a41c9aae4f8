"""Forms that are not multipart, looked at for names that a client would forge (``handoff="reference"``).

The application finds the names of its uploads as text. So a client may not send text under those fields in another
kind of form, as any parser reads it: with ";" between the keys, with blanks around them, or in bytes that are no UTF-8.
The body is handed on as it was. The middleware calls this.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from ..config import Limits
from ..errors import UploadRejected, counted, shown
from .request_body import RequestBody
from .request_head import content_length, refuse_charset

__all__ = ["receive_urlencoded"]

SEPARATOR = re.compile(rb"[&;]")


def receive_urlencoded(environ: Mapping[str, Any], limits: Limits, fields: frozenset[str]) -> bytes:
    """Return the body of a form that is no multipart, whole and bounded.

    Raises UploadRejected: 400 if it has one of ``fields``, or if parsers could read another key in it; 413 over
    ``max_form_size`` or ``max_fields``.
    """
    refuse_charset(environ)
    if not environ.get("CONTENT_LENGTH") and not environ.get("wsgi.input_terminated"):
        return b""
    body = RequestBody(
        environ["wsgi.input"],
        content_length(environ),
        max_size=limits.max_form_size,
        max_seconds=limits.max_seconds,
        clock=time.monotonic,
    )
    whole = b"".join(iter(body.read, b""))
    for key in _keys(whole, limits.max_fields):
        if key in fields:
            raise UploadRejected(f"The field {shown(key)} takes a file, not text.")
    return whole


def _keys(body: bytes, limit: int) -> Iterator[str]:
    """Yield the keys as the laxest parser reads them."""
    pairs = SEPARATOR.split(body, limit)
    if len(pairs) > limit:
        raise UploadRejected(f"The form has more than {counted(limit, 'field')}.", 413)
    for pair in pairs:
        key = unquote_to_bytes(pair.partition(b"=")[0].replace(b"+", b" "))
        yield key.decode("utf-8", "ignore").strip()
