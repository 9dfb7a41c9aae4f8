"""What an outbox has lost: told when it is opened, once, and taken back if it cannot be known any more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from outboxes import HOST, NOW, OTHER, Clock, record

from resto_wsgi.outbox import loss
from resto_wsgi.outbox.outbox import NO_MASTER, Outbox

Open = Callable[[], Outbox]


@pytest.fixture(params=["a master", NO_MASTER])
def kind(request: pytest.FixtureRequest) -> str:
    """What the mode keeps."""
    return str(request.param)


@pytest.fixture
def opened(path: str, kind: str, clock: Clock) -> Open:
    """Open the outbox as an application does."""
    return lambda: Outbox(path, identity="5e0d" * 8, kind=kind, clock=clock)


def remove(path: str) -> None:
    for end in ("", "-wal", "-shm"):
        Path(path + end).unlink(missing_ok=True)


def test_one_that_is_gone_with_what_it_owed_is_told_once(
    opened: Open, path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the day, what happens by itself and what a person has to do; the note is then that of the new one."""
    outbox = opened()
    record(outbox)
    outbox.close()
    assert caplog.text == ""
    remove(path)
    opened().close()
    assert "is gone, with what it owed" in caplog.text
    assert ("sent all that MEDIA_ROOT has" in caplog.text) == (kind != NO_MASTER)
    assert ("copy the files of one media server" in caplog.text) == (kind == NO_MASTER)
    assert "`Replicator.delete(NAME)`" in caplog.text
    caplog.clear()
    opened().close()
    assert caplog.text == ""


def test_one_that_was_drained_and_moved_away_has_lost_what_it_alone_knew(
    opened: Open, path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That is nothing if there is a master: so a mode is changed."""
    outbox = opened()
    outbox.settle([record(outbox)])
    outbox.close()
    remove(path)
    opened().close()
    assert ("is gone" in caplog.text) == (kind == NO_MASTER)


@pytest.mark.parametrize("end", ["closed", "noted", "killed"])
def test_one_from_a_backup_believes_no_more_what_may_have_changed(
    opened: Open, path: str, kind: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Hosts may lack what was saved since; without a master, what was deleted may have been saved again."""
    outbox = opened()
    outbox.admit(HOST)
    outbox.entomb("gone")
    outbox.note_present("cat", "ab")
    outbox.close()
    shutil.copy(path, f"{path}.backup")
    outbox = opened()
    record(outbox)
    if end == "noted":
        outbox.take_note()
    if end == "closed":
        outbox.close()
    remove(path)
    shutil.copy(f"{path}.backup", path)
    outbox._database.__del__()
    outbox = opened()
    told = end != "killed"  # nobody had noted the record that was lost with it
    assert ("older than the one" in caplog.text) == told
    assert outbox.members() == (frozenset() if told and kind != NO_MASTER else {HOST})
    assert outbox.is_gone("gone") is (None if told and kind == NO_MASTER else True)
    assert outbox.sha256("cat") == "ab"
    caplog.clear()
    outbox.take_note()
    outbox.close()
    opened().close()
    assert caplog.text == ""


def test_another_one_in_its_place_is_no_newer_for_its_generation(
    opened: Open, path: str, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An id tells it, so that the outbox of a copy of the site is not taken for this one's."""
    opened().close()
    other = Outbox(str(tmp_path / "other"), identity="5e0d" * 8, clock=clock)
    for number in range(5):
        record(other, f"{number}", OTHER)
    other.close()
    shutil.copy(tmp_path / "other", path)
    outbox = Outbox(path, kind="a master", clock=clock)
    assert "older than the one" in caplog.text
    outbox.close()


def test_a_crash_leaves_a_note_that_says_nothing_wrong(
    opened: Open, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The outbox is newer than it."""
    outbox = opened()
    record(outbox)
    outbox._database.close()
    outbox = opened()
    assert outbox.deliveries("cat")
    outbox.close()
    assert caplog.text == ""


@pytest.mark.parametrize("content", ["", "[", "null", '["ab", 1]', '["ab", "x", 1, 0, 0]'])
def test_a_note_that_cannot_be_read_is_none(
    opened: Open, path: str, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After a power cut; it is written anew."""
    opened().close()
    Path(path + ".note").write_text(content)
    opened().close()
    assert caplog.text == ""
    note = loss.read(path + ".note")
    assert note is not None and note.written == NOW


def test_a_note_that_cannot_be_written_stops_nothing(opened: Open, path: str) -> None:
    """The one that is there stays, and no part of another."""
    os.mkdir(path + ".note")
    outbox = opened()
    record(outbox)
    outbox.close()
    assert [entry for entry in os.listdir(os.path.dirname(path)) if ".note" in entry] == ["outbox.sqlite3.note"]


def test_no_note_is_written_if_nothing_has_changed(opened: Open, path: str) -> None:
    """So that a site that rests lets its disk rest."""
    outbox = opened()
    outbox.take_note()
    before = os.stat(path + ".note")
    outbox.take_note()
    assert os.stat(path + ".note").st_ino == before.st_ino
    record(outbox)
    outbox.take_note()
    assert os.stat(path + ".note").st_ino != before.st_ino
    outbox.close()


def test_a_close_whose_file_is_gone_fails_on_nothing(opened: Open, path: str) -> None:
    """It is told when it is used, and at the next start."""
    outbox = opened()
    remove(path)
    outbox.close()
    assert not os.path.exists(path)
