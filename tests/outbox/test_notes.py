"""What is noted in the outbox for all processes of a site."""

from __future__ import annotations

from outboxes import HOST, OTHER, statements

from resto_wsgi.outbox.outbox import Outbox


def test_nothing_is_noted_at_first(outbox: Outbox) -> None:
    """No folder, no kind and no host."""
    assert (outbox.notes.unlisted(), outbox.notes.skipped(), outbox.notes.on_master()) == (frozenset(), {}, {})


def test_a_note_is_replaced_as_a_whole_and_seen_by_other_processes(outbox: Outbox, path: str) -> None:
    """Names that no other encoding than UTF-8 can spell, and those that none can, come back as they were."""
    other = Outbox(path)
    for folders in ({"a", "b/ä", "\udcff"}, {"c"}, set()):
        outbox.notes.keep_unlisted(folders)
        assert other.notes.unlisted() == folders
    outbox.notes.keep_skipped({"a symbolic link": 2})
    outbox.notes.keep_skipped({"a hidden name": 1})
    assert other.notes.skipped() == {"a hidden name": 1}
    other.close()


def test_each_host_has_a_note_of_its_own(outbox: Outbox) -> None:
    """The latest counts; what else is in the table is none of them."""
    outbox.notes.keep_unlisted({"a"})
    outbox.notes.keep_on_master(HOST, True)
    outbox.notes.keep_on_master(OTHER, True)
    outbox.notes.keep_on_master(OTHER, False)
    assert outbox.notes.on_master() == {HOST: True, OTHER: False}


def test_what_is_noted_already_is_not_written_again(outbox: Outbox) -> None:
    """A walk comes each time that the worker sweeps, and its findings are mostly the same."""
    outbox.notes.keep_unlisted({"a", "b"})
    assert "COMMIT" not in statements(outbox, lambda: outbox.notes.keep_unlisted({"b", "a"}))
