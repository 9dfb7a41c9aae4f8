"""A party of a master, an outbox and hosts, for the tests of what makes them match."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from party import Party, Scripted

from resto_wsgi.transports import Transport


@pytest.fixture
def make_party(tmp_path: Path) -> Iterator[Callable[..., Party]]:
    """``make_party(hosts, transport, distributed=True)`` returns a party; its transport is Scripted by default."""
    with ExitStack() as stack:

        def make_party(hosts: Any, transport: Transport | None = None, **options: Any) -> Party:
            party = Party(tmp_path, hosts, transport or Scripted(), **options)
            stack.callback(party.close)
            return party

        yield make_party
