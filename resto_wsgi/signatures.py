"""Signing requests to our own media server: ``sign`` and ``Key``, for others. The work is in ``trust.signatures``."""

from __future__ import annotations

from .trust.signatures import Key, sign

__all__ = ["Key", "sign"]
