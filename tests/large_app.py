"""The application of test_large: answers with the SHA-256 of the body that it read, and with its own peak memory."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from resto_wsgi import Replicator, Settings, UploadMiddleware


def peak() -> int:
    """Return the peak resident memory of this process in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    digest = hashlib.sha256()
    while block := environ["wsgi.input"].read(1 << 20):
        digest.update(block)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Peak", str(peak()))])
    return [digest.hexdigest().encode()]


application = UploadMiddleware(  # type: ignore[assignment]
    application, Replicator(Settings.from_environ(os.environ)), max_file_size=4 << 30, max_total_size=4 << 30
)
