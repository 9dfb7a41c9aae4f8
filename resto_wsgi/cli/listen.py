"""Where a server listens, as an option says it: `--listen`, of `resto media-server` and of `resto config`."""

from __future__ import annotations

import re

__all__ = ["parse_listen"]

_LISTEN = re.compile(r"(?:(\[[^][]+\]|[^][:]+):)?([0-9]{1,5})")


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT, [HOST]:PORT for IPv6; "" for the host of PORT alone. Raises ValueError."""
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(text)
    return (match[1] or "").strip("[]"), int(match[2])
