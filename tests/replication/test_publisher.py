"""How a name comes to be and to be no more: a real master and outbox, and hosts whose answers are scripted."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from party import CAT, DOG, Clock, Scripted

from resto_wsgi.errors import DeliveryError, MediaRootError, OutboxError, ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.replication.batch import Attempt
from resto_wsgi.replication.outcome import failures_of
from resto_wsgi.replicator import Parts, Replicator

ONE, TWO = Host("one", "http://one/media"), Host("two", "http://two/media")
REFUSED = DeliveryError("two", "cat", "refuses connections", untouched=True)
SILENT = DeliveryError("two", "cat", "no answer within 2 s")


class Site:
    """A replicator of two hosts, its transport, and what happened in which order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **keywords: Any) -> None:
        self.transport = Scripted()
        self.root = root
        parts = Parts(transport=self.transport, apart=True, clock=Clock())
        usual = {"media_root": root, "media_hosts": ["one", "two"], "media_url": "/media/", "background": False}
        self.replicator = Replicator(parts=parts, **{**usual, "fsync": False, **keywords})
        self.outbox, self.master = self.replicator._outbox, self.replicator._media_root
        self.steps: list[str] = []
        for part, method in [
            (self.outbox, "record"),
            (self.master, "publish"),
            (self.master, "remove"),
            (self.master, "make_durable"),
            (self.transport, "put"),
            (self.transport, "delete"),
            (self.master, "take_back"),
            (self.outbox, "cancel"),
            (self.outbox, "settle"),
        ]:
            monkeypatch.setattr(part, method, self._noted(method, getattr(part, method)))

    def _noted(self, method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **keywords: Any) -> Any:
            self.steps.append(method)
            return original(*arguments, **keywords)

        return noted

    def publish(self, content: bytes = CAT, name: str = "cat", *, overwrite: bool = False) -> Any:
        staged = self.replicator.stage()
        staged.write(content)
        try:
            return self.replicator.publish(staged, name, overwrite=overwrite)[1]
        finally:
            self.kept = staged

    def owing(self, name: str = "cat") -> set[Host]:
        return {*self.outbox.deliveries(name)}

    def held(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.root.iterdir() if path.is_file()}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    """``site(required=1)`` returns one with that setting."""
    made: list[Site] = []

    def make(**keywords: Any) -> Site:
        made.append(Site(tmp_path / "media", monkeypatch, **keywords))
        return made[-1]

    yield make
    for each in made:
        each.replicator.close()


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


# Saving


def test_a_save_is_recorded_before_it_is_seen_and_settled_after_it_was_sent(site: Any) -> None:
    """So that a kill between two steps leaves it owed, or not there at all."""
    one = site()
    one.publish()
    assert one.steps == ["record", "publish", "make_durable", "put", "put", "settle"]
    assert one.owing() == set() and one.transport.holds == {"one": {"cat": CAT}, "two": {"cat": CAT}}


def test_a_taken_name_is_refused_before_anything_is_recorded(site: Any) -> None:
    """Nobody is asked, and what is there stays."""
    one = site()
    one.publish()
    one.steps.clear()
    with pytest.raises(FileExistsError):
        one.publish(DOG)
    assert one.steps == [] and one.held() == {"cat": CAT}


@pytest.mark.parametrize(("error", "owing"), [(REFUSED, set()), (SILENT, {TWO})])
def test_too_few_hosts_withdraw_a_save_from_those_that_may_have_it(
    site: Any, error: DeliveryError, owing: set[Host]
) -> None:
    """Not from one that was not touched; one that may still do what was asked is owed it, and not asked again now."""
    one = site()
    one.transport.fails["two"] = error
    with pytest.raises(ReplicationError) as caught:
        one.publish()
    assert (caught.value.done, caught.value.required, caught.value.failures) == (1, 2, {"two": error})
    assert [(method, host) for method, host, _ in one.transport.asked if method == "DELETE"] == [("DELETE", "one")]
    assert (one.owing(), one.held(), one.transport.holds) == (owing, {}, {"one": {}})
    assert one.outbox.host_states()[TWO].state == "down", "that it failed is noted in both cases"


def test_enough_hosts_leave_the_rest_owed(site: Any) -> None:
    """What failed is in the outcome, and is noted with what is owed."""
    one = site(required=1)
    one.transport.fails["two"] = SILENT
    one.publish()
    assert one.owing() == {TWO} and one.outbox.deliveries("cat")[TWO].attempts == 1
    assert one.transport.holds == {"one": {"cat": CAT}}


def test_a_version_that_is_replaced_in_vain_is_back(site: Any) -> None:
    """On the master, and on the host that had taken the new one."""
    one = site()
    one.replicator.keep(one.publish())
    one.transport.fails["two"] = REFUSED
    with pytest.raises(ReplicationError):
        one.publish(DOG, overwrite=True)
    assert one.held() == {"cat": CAT}
    assert one.transport.holds == {"one": {"cat": CAT}, "two": {"cat": CAT}}


def test_a_name_that_cannot_be_made_durable_is_taken_back_and_nobody_asked(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is owed either: no host has heard of it."""
    one = site()
    full = MediaRootError("save", "cat", OSError(errno.ENOSPC, "no space"))
    monkeypatch.setattr(one.master, "make_durable", failing(full))
    with pytest.raises(MediaRootError):
        one.publish()
    assert (one.held(), one.owing(), one.transport.asked) == ({}, set(), [])


def test_what_cannot_be_cancelled_hides_no_error(site: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """It is logged, and converged once more without harm; the caller hears of the disk."""
    one = site()
    full = MediaRootError("save", "cat", OSError(errno.ENOSPC, "no space"))
    monkeypatch.setattr(one.master, "publish", failing(full))
    monkeypatch.setattr(one.outbox, "cancel", failing(OutboxError("outbox", "no space", "free some")))
    with pytest.raises(MediaRootError):
        one.publish()
    assert "not settled, and delivered once more: outbox" in caplog.text and one.owing() == {ONE, TWO}


def test_an_interruption_while_it_is_sent_withdraws_it_and_leaves_all_begun(site: Any) -> None:
    """Nobody knows any more which hosts ended without an answer."""
    one = site()

    def calm(*_: Any) -> None:
        one.transport.under_way = lambda: None
        raise KeyboardInterrupt

    one.transport.under_way = calm
    with pytest.raises(KeyboardInterrupt):
        one.publish()
    assert one.held() == {} and one.owing() == {ONE, TWO}
    assert all(not files for files in one.transport.holds.values())
    assert all(one.outbox.claim(host, ["cat"])[0].unsure_until > 0 for host in (ONE, TWO))


# Withdrawing


def test_a_withdrawal_is_told_to_every_host(site: Any) -> None:
    """In the same order as a save, and it leaves a tombstone."""
    one = site()
    publication = one.publish()
    one.steps.clear()
    one.replicator.withdraw(publication)
    assert one.steps[:2] == ["record", "take_back"] and one.steps[-1] == "settle"
    assert (one.held(), one.owing(), one.outbox.is_gone("cat")) == ({}, set(), True)
    assert one.transport.holds == {"one": {}, "two": {}}


def test_who_was_replaced_since_takes_nothing_back(site: Any) -> None:
    """The newer version stays, and no host is asked."""
    one = site()
    first = one.publish()
    one.publish(DOG, overwrite=True)
    one.transport.asked.clear()
    one.replicator.withdraw(first)
    assert one.held() == {"cat": DOG} and one.transport.asked == []


# Deleting


def test_a_delete_is_recorded_before_the_master_is_removed(site: Any) -> None:
    """And it stands: a host that fails stays owed it, and the caller is told by label."""
    one = site()
    one.replicator.keep(one.publish())
    one.transport.fails["two"] = SILENT
    one.steps.clear()
    with pytest.raises(ReplicationError) as caught:
        one.replicator.delete("cat")
    assert one.steps == ["record", "remove", "delete", "delete", "settle"]
    assert (caught.value.done, caught.value.required, list(caught.value.failures)) == (1, 2, ["two"])
    assert (one.held(), one.owing(), one.outbox.is_gone("cat")) == ({}, {TWO}, True)


def test_a_master_that_cannot_be_removed_is_as_it_was(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is owed, and the tombstone that was recorded with it counts for nothing."""
    one = site()
    one.replicator.keep(one.publish())
    read_only = MediaRootError("delete", "cat", OSError(errno.EROFS, "read-only"))
    monkeypatch.setattr(one.master, "remove", failing(read_only))
    with pytest.raises(MediaRootError):
        one.replicator.delete("cat")
    assert one.held() == {"cat": CAT} and one.owing() == set() and not one.outbox.is_gone("cat")
    assert one.transport.holds["one"] == {"cat": CAT}


# In the background


def test_in_mode_async_nobody_is_asked(site: Any) -> None:
    """Neither by a save nor by a withdrawal or a delete: all of it is owed, and the caller is not told of failures."""
    one = site(mode="async")
    one.transport.fails = {"one": REFUSED, "two": REFUSED}
    one.replicator.withdraw(one.publish())
    one.replicator.keep(one.publish())
    one.replicator.delete("cat")
    assert one.transport.asked == [] and one.owing() == {ONE, TWO}
    assert one.outbox.claim(ONE, ["cat"])[0].unsure_until == 0, "nothing of it was begun"


# For a media server


def test_what_is_carried_is_owed_if_the_master_has_changed(site: Any) -> None:
    """A change that failed and left all as it was is not; what the transport brought back is with each attempt."""
    one = site(fatal_exceptions=False)

    def change() -> None:
        (one.root / "cat").write_bytes(CAT)

    with pytest.raises(ZeroDivisionError):
        one.replicator.carry("cat", failing(ZeroDivisionError()), gone=False, later=False)
    assert one.owing() == set()

    def change_and_fail() -> None:
        change()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one.replicator.carry("cat", change_and_fail, gone=False, later=False)
    assert one.owing() == {ONE, TWO} and one.transport.asked == []
    later = one.replicator.carry("cat", change, gone=False, later=True, way="a,b")
    assert failures_of(later).keys() == {ONE, TWO} and one.transport.asked == []
    assert one.outbox.way(ONE, "cat") == "a,b"
    outcome = one.replicator.carry("cat", change, gone=False, later=False)
    assert {host: type(attempt) for host, attempt in outcome.items()} == {ONE: Attempt, TWO: Attempt}
    assert failures_of(outcome) == {} and one.transport.holds["one"] == {"cat": CAT}
