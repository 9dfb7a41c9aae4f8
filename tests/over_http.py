"""What the tests of the HTTP transport share: how long they wait for a fault, the host that a server is, and counts.

The fixtures that go with it are in ``conftest.py``: ``transport``, ``hasty``, ``connections`` and ``certificate``.
"""

from __future__ import annotations

import gc
import os
from typing import Any

from resto_wsgi.hosts import Host

TIMEOUT = 0.3  # seconds without progress, where a fault is awaited
BOUND = 3 * TIMEOUT + 2.0  # seconds that a request may take with TIMEOUT, on a busy machine


def host(server: Any) -> Host:
    """Return a server of the tests as the transport knows it."""
    return Host(server.url, server.url)


def descriptors() -> int:
    """Count the descriptors that this process has open."""
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))
