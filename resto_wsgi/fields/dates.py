"""HTTP dates (RFC 9110, section 5.6.7): read from headers of anybody, and written.

Strings and numbers only: no clock. The transport, the check and the media server call this.
"""

from __future__ import annotations

from datetime import timezone
from email.utils import formatdate, parsedate_to_datetime

__all__ = ["format_date", "parse_date"]


def format_date(seconds: float) -> str:
    """Return ``seconds`` since 1970 as a header says it."""
    # Without usegmt it would end with -0000, and a header has to say GMT.
    return formatdate(seconds, usegmt=True)


def parse_date(text: str) -> float | None:
    """Return a date in seconds since 1970, None if it is none. One without a zone is in GMT."""
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone, or with -0000, comes back without one; timestamp() would take it for local time.
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
