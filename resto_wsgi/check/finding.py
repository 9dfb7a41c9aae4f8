"""What a probe returns, and what ends one early. Plain values: no socket, no terminal.

``ok`` is as it should be, ``warning`` is not but loses nothing, ``unsafe`` means that replication would break one of
its promises, ``unknown`` that it cannot be seen from here. Text of a server is in ``seen`` only through `errors.shown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Stopped", "Trouble", "Verdict"]

Verdict = Literal["ok", "warning", "unsafe", "unknown"]


@dataclass(frozen=True)
class Finding:
    """``key`` says what was looked at, ``seen`` what was found, ``remedy`` what to change, "" if nothing."""

    key: str
    verdict: Verdict
    seen: str
    remedy: str = ""


class Trouble(Exception):
    """A request was not done. ``status`` is the HTTP status if one came, else None: the host did not answer.

    ``cause`` is "tls" or "protocol" if that is what failed, for the remedy.
    """

    def __init__(self, reason: str, status: int | None = None, cause: str = "") -> None:
        super().__init__(reason, status, cause)
        self.reason = reason
        self.status = status
        self.cause = cause

    def __str__(self) -> str:
        return self.reason if self.status is None or self.status < 400 else f"answered {self.status}"


class Stopped(Exception):
    """Somebody wants the check to end; nothing but `run` catches this."""
