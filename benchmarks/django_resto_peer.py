"""django-resto 1.3 as its README says: settings, and its HybridStorage. It runs unchanged on Django 5.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["hybrid_storage"]


def hybrid_storage(root: str, hosts: Sequence[str], timeout: float = 2.0) -> Any:
    """Configure Django, once in a process, and return the storage; ``timeout`` in seconds, 2 is its default."""
    from django.conf import settings

    settings.configure(
        MEDIA_ROOT=root, MEDIA_URL="/media/", RESTO_MEDIA_HOSTS=tuple(hosts), RESTO_TIMEOUT=timeout, USE_TZ=True
    )
    from django_resto.storage import HybridStorage

    return HybridStorage()
