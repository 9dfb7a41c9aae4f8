"""Mode distributed: what is put, deleted and filled where no master is kept, and when a spool is dropped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from party import CAT, DOG, NOW, ONE, TWO, Party, Scripted, refusal
from servers import held, on_every_kind, roots_of

from resto_wsgi.errors import DeliveryError
from resto_wsgi.outbox.outbox import LATE
from resto_wsgi.transports import Transport
from resto_wsgi.transports.http.transport import HttpTransport

MakeParty = Callable[..., Party]


def test_the_spool_is_dropped_when_the_last_host_has_the_file(make_party: MakeParty, media_servers: Any) -> None:
    """With the folders that it leaves empty; the name is remembered as present."""
    servers = media_servers("nginx", 2)
    party = make_party(servers, HttpTransport(5.0), distributed=True)
    party.write(CAT, "a/b/cat")
    owed = party.owe(name="a/b/cat")
    for number, host in enumerate(party.hosts):
        assert (party.root / "a/b/cat").exists() and party.outbox.is_gone("a/b/cat") is True
        assert party.deliver(host, "a/b/cat") is None
        party.settle(owed[host])
        assert held(servers[number]) == {"a/b/cat": CAT}
    assert [path.name for path in party.root.iterdir()] == [".resto"]
    assert list(party.outbox.names()) == ["a/b/cat"]


def test_a_backup_of_hard_links_keeps_no_spool(make_party: MakeParty) -> None:
    """``cp -al`` of the root: each file has a link more for good, and is no staged file for that."""
    party = make_party([ONE], distributed=True)
    party.write()
    shutil.copytree(party.root, party.root.with_name("backup"), copy_function=os.link)
    assert (party.root / "cat").stat().st_nlink == 2 and not party.media_root.is_staged("cat")
    owed = party.owe()
    assert party.deliver(ONE) is None
    party.settle(owed[ONE])
    assert not party.media_root.exists("cat")
    assert (party.root.with_name("backup") / "cat").read_bytes() == CAT


def test_the_spool_stays_while_a_host_is_parked_or_unsure(make_party: MakeParty) -> None:
    """Whatever the reason: what is owed can only come from there for certain."""
    party = make_party([ONE, TWO], distributed=True)
    party.write()
    owed = party.owe()
    party.settle(owed[TWO], refusal(413, permanent=True, host=TWO))
    party.settle(owed[ONE])
    assert party.media_root.exists("cat")
    party.owe(ONE)
    for host in (ONE, TWO):
        for delivery in party.outbox.claim(host, ["cat"]):
            party.settle(delivery)
    assert party.owing() == {ONE}, "its sender died"
    assert party.media_root.exists("cat")
    party.clock.now += LATE
    for delivery in party.outbox.claim(ONE, ["cat"]):
        party.settle(delivery)
    assert not party.media_root.exists("cat")


def test_the_spool_stays_while_its_publisher_may_take_it_back(make_party: MakeParty) -> None:
    """All hosts have it, but a withdrawal needs it; the publisher drops it, and nobody else before he has ended."""
    party = make_party([ONE], distributed=True)
    first, second, third = (party.media_root.stage() for _ in range(3))
    for staged in (first, second, third):
        staged.seal()
    replaced = party.media_root.publish(first, "cat")
    delivery = party.owe()[ONE]
    publication = party.media_root.replace(second, "cat")
    party.settle(delivery)
    assert party.owing() == set()
    for let_go in (lambda: party.mode.drop("cat"), lambda: party.mode.keep(replaced)):
        let_go()
        assert party.media_root.exists("cat") and party.outbox.is_gone("cat") is True
    party.mode.keep(publication)
    assert not party.media_root.exists("cat") and party.outbox.is_gone("cat") is False
    party.media_root.publish(third, "dog")
    party.outbox.entomb("dog")
    party.mode.drop("dog")
    assert party.media_root.exists("dog")
    third.discard()
    party.mode.drop("dog")
    assert not party.media_root.exists("dog"), "he has ended, and not taken it back"


def test_not_even_its_publisher_drops_a_spool_that_is_owed(make_party: MakeParty) -> None:
    """It is the only whole copy that is certain."""
    party = make_party([ONE, TWO], distributed=True)
    staged = party.media_root.stage()
    staged.seal()
    owed = party.owe()
    publication = party.media_root.publish(staged, "cat")
    party.settle(owed[ONE])
    party.mode.keep(publication)
    assert party.media_root.exists("cat")


def test_hosts_that_are_no_longer_configured_hold_no_spool(make_party: MakeParty) -> None:
    """Nobody delivers to them, so that their rows are there for ever."""
    party = make_party([ONE], distributed=True)
    party.write()
    owed = party.owe(ONE, TWO)
    party.settle(owed[ONE])
    assert party.owing() == {TWO}
    assert not party.media_root.exists("cat")
    assert party.outbox.is_gone("cat") is False


def test_the_spool_stays_while_a_host_is_no_member(make_party: MakeParty) -> None:
    """New, or being filled: it may not even be owed the name yet."""
    party = make_party([ONE, TWO], distributed=True)
    party.write()
    for delivery in party.owe().values():
        party.outbox.admit(TWO, joining=party.outbox.generation())
        party.settle(delivery)
    assert party.owing() == set() and party.media_root.exists("cat")
    party.outbox.expel([TWO])
    party.mode.drop("cat")
    assert party.media_root.exists("cat")
    party.outbox.admit(TWO)
    party.mode.drop("cat")
    assert not party.media_root.exists("cat")


def test_a_file_that_nobody_saved_is_no_spool(make_party: MakeParty) -> None:
    """It was there before this outbox was: no host is owed it, and it may be the only copy."""
    party = make_party([ONE], distributed=True)
    party.write()
    party.mode.drop("cat")
    assert party.media_root.exists("cat") and party.outbox.is_gone("cat") is None


def test_a_name_is_present_before_its_spool_is_dropped(make_party: MakeParty, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two would else leave a name that nobody knows, and that no host could be filled with."""
    party = make_party([ONE], distributed=True)
    party.write()
    delivery = party.owe()[ONE]
    seen: list[bool | None] = []

    def die(name: str) -> None:
        seen.append(party.outbox.is_gone(name))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(party.media_root, "drop", die)
        party.settle(delivery)
    assert seen == [False]
    assert party.media_root.exists("cat")
    party.mode.drop("cat")
    assert not party.media_root.exists("cat"), "whoever comes next drops it"


def test_dropping_a_spool_that_is_not_there_changes_nothing(make_party: MakeParty) -> None:
    """Above all it does not make a name present that was deleted."""
    party = make_party([ONE], distributed=True)
    party.outbox.entomb("cat")
    party.mode.drop("cat")
    party.settle(party.owe()[ONE])
    assert party.outbox.is_gone("cat") is True


@on_every_kind
def test_a_name_with_a_tombstone_is_deleted(make_party: MakeParty, media_server: Any) -> None:
    """The spool is gone, and it was deleted, so that every host must drop it."""
    party = make_party([media_server], HttpTransport(5.0), distributed=True)
    Path(media_server.root, "cat").write_bytes(CAT)
    party.owe()
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {}


@on_every_kind
def test_a_spool_is_put_although_its_name_was_deleted_once(make_party: MakeParty, media_server: Any) -> None:
    """It was saved again since, and the tombstone goes when all hosts have it."""
    party = make_party([media_server], HttpTransport(5.0), distributed=True)
    party.outbox.entomb("cat")
    party.write()
    delivery = party.owe()[party.hosts[0]]
    assert party.deliver(party.hosts[0]) is None
    party.settle(delivery)
    assert held(media_server) == {"cat": CAT}
    assert party.outbox.is_gone("cat") is False


@on_every_kind
def test_a_host_is_filled_from_another(make_party: MakeParty, kind_of_host: str, media_servers: Any) -> None:
    """The spool is gone and the name is present: a new host gets the file of an old one, and its time."""
    old, new = media_servers(kind_of_host, 2)
    party = make_party([old, new], HttpTransport(5.0), distributed=True)
    path = Path(old.root, "a/cat")
    path.parent.mkdir()
    path.write_bytes(CAT)
    os.utime(path, (1_234_567_890, 1_234_567_890))
    party.outbox.note_present("a/cat")
    delivery = party.owe(party.hosts[1], name="a/cat", gone=False)[party.hosts[1]]
    assert party.deliver(party.hosts[1], "a/cat") is None
    party.settle(delivery)
    assert held(new) == {"a/cat": CAT}
    assert {Path(root, "a/cat").stat().st_mtime for root in roots_of(new)} == {1_234_567_890}
    assert party.owing("a/cat") == set()
    assert list(party.media_root.names()) == [], "the copy was not published here"


def test_a_name_that_nobody_knows_is_left_alone(make_party: MakeParty) -> None:
    """Its save died before it gave the name, and what hosts hold under it may be somebody else's."""
    transport = Scripted()
    transport.holds = {"one": {"cat": DOG}}
    party = make_party([ONE], transport, distributed=True)
    delivery = party.owe(gone=False)[ONE]
    assert party.deliver(ONE) is None
    party.settle(delivery)
    assert transport.asked == []
    assert party.owing() == set()
    assert party.outbox.is_gone("cat") is None


def test_a_host_that_cannot_be_filled_is_not_blamed_for_it(make_party: MakeParty) -> None:
    """Where no other host answers it waits; where none holds the file it is parked."""
    transport = Scripted()
    transport.fails["two"] = DeliveryError("two", "cat", "no answer")
    party = make_party([ONE, TWO], transport, distributed=True)
    party.outbox.note_present("cat")
    delivery = party.owe(ONE, gone=False)[ONE]
    error = party.deliver(ONE)
    assert error is not None and (error.ours, error.permanent) == (True, False)
    party.settle(delivery, error)
    assert {state.state for state in party.outbox.host_states().values()} <= {"up"}
    del transport.fails["two"]
    error = party.deliver(ONE)
    assert error is not None and (error.ours, error.permanent) == (True, True)
    assert not any(method in ("PUT", "DELETE") for method, *_ in transport.asked)


def test_an_unmounted_spool_deletes_nothing(make_party: MakeParty) -> None:
    """Not even where there is a tombstone: the file may have been saved again, on the disk that is not there."""
    transport = Scripted()
    party = make_party([ONE], transport, distributed=True)
    party.owe()
    party.unmount()
    error = party.deliver(ONE)
    assert error is not None and error.ours
    assert transport.asked == []


def test_the_scripted_transport_is_a_transport(tmp_path: Path) -> None:
    """What is faked here does as a real one does, for the calls that are made."""
    transport: Transport = Scripted()
    (tmp_path / "cat").write_bytes(CAT)
    with open(tmp_path / "cat", "rb", buffering=0) as file:
        transport.put(ONE, "cat", file, len(CAT), NOW)
    assert transport.head(ONE, "cat") == len(CAT)
    with pytest.raises(FileNotFoundError):
        transport.get(TWO, "cat", print)
