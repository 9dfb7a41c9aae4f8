"""The checks that the tests of probes run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from checked import CheckServers, made

from resto_wsgi.check import Report
from resto_wsgi.transports.http.transport import HttpTransport


@pytest.fixture
def check() -> Iterator[CheckServers]:
    """``check(server, ...)`` returns a report for each server, or URL."""
    transports = []

    def check(*servers: Any, timeout: float = 2.0, **more: Any) -> list[Report]:
        transports.append(HttpTransport(timeout))
        return made(transports[-1], *servers, timeout=timeout, **more).run()

    yield check
    for transport in transports:
        transport.close()
