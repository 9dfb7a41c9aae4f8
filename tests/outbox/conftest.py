"""An outbox with a clock that a test moves, and the parts on which it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from outboxes import Clock

from resto_wsgi.outbox import tables
from resto_wsgi.outbox.opening import Opening
from resto_wsgi.outbox.outbox import Outbox
from resto_wsgi.outbox.session import Session


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until a test moves it."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where an outbox may be made."""
    return str(tmp_path / "outbox.sqlite3")


@pytest.fixture
def outbox(path: str, clock: Clock) -> Iterator[Outbox]:
    """An empty outbox."""
    outbox = Outbox(path, clock=clock)
    yield outbox
    outbox.close()


@pytest.fixture
def session(path: str) -> Iterator[Session]:
    """The session of this process with an empty file."""
    session = Session(Opening(path, tables.APPLICATION, tables.STEPS))
    with session.alone():
        session.make()
    yield session
    session.close()
