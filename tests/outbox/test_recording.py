"""Recording what is owed, claiming it, and taking it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from outboxes import HOST, NOW, OTHER, Clock, record, row

from resto_wsgi.outbox.outbox import LATEST, VERSION_MAX, Delivery, Failure, HostState, Outbox
from resto_wsgi.outbox.rows import ROOM


def test_what_is_recorded_is_owed_by_each_host(outbox: Outbox) -> None:
    """A first recording is fresh; what is read back is the same but for that."""
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW + 30)
    expected = Delivery(HOST, "cat", int(NOW * 1e9), NOW, NOW + 30, 0, False, 0.0, None, "", fresh=True, entombed=False)
    assert recorded == {HOST: expected, OTHER: expected._replace(host=OTHER)}
    assert row(outbox) == expected._replace(fresh=False, entombed=None)


def test_recording_again_supersedes_but_remembers_since_when(outbox: Outbox, clock: Clock) -> None:
    """Failures are forgotten, the generation is higher, and it is not fresh any more."""
    first = record(outbox, begin=False)
    outbox.settle([], [Failure(first, NOW + 60, "refused", 403, parked=True, unsure_until=NOW + 5)])
    clock.now += 10
    second = record(outbox, begin=False, due=NOW + 11)
    assert second == Delivery(
        HOST, "cat", int(clock.now * 1e9), NOW, NOW + 11, 0, False, NOW + 5, None, "", entombed=False
    )
    assert row(outbox) == second._replace(entombed=None)


def test_a_recording_tells_what_is_known_of_each_host(outbox: Outbox) -> None:
    """So a request need not read it again; of a host of which nothing is known it says nothing."""
    away = HostState(HOST, "down", NOW, 1, NOW + 50, "refused")
    outbox.note_host(away)
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW)
    assert (recorded[HOST].state, recorded[OTHER].state) == (away, None)


def test_generations_never_go_back(path: str) -> None:
    """Not even when nothing is owed any more, and the outbox was opened anew."""
    seen = []
    for _ in range(3):
        outbox = Outbox(path)
        delivery = record(outbox)
        seen.append(delivery.generation)
        outbox.settle([delivery])
        assert outbox.summary() == []
        outbox.owe(OTHER, ["dog"])
        seen.append(row(outbox, "dog", OTHER).generation)
        outbox.settle([row(outbox, "dog", OTHER)])
        outbox.close()
    assert seen == sorted(set(seen))


def test_a_recording_without_hosts_writes_the_tombstone_alone(outbox: Outbox) -> None:
    """Where there are no media servers, a delete is still remembered."""
    assert outbox.record("cat", [], begin=True, due=NOW, gone=True) == {}
    assert (outbox.is_gone("cat"), outbox.summary()) == (True, [])


def test_names_with_any_character_come_back(outbox: Outbox) -> None:
    """Quotes, percent signs, other alphabets and the last code point are but text."""
    for name in ("a'b", 'a"b', "a%b_c", "ж/猫", "\U0010ffff\U0010ffff", "x" * 1024):
        record(outbox, name)
        assert row(outbox, name).name == name
        assert outbox.due(HOST, NOW, 10) == [name]
        outbox.settle([row(outbox, name)])


@pytest.mark.parametrize("how", ["record", "claim"])
def test_a_delivery_found_begun_is_unsure(outbox: Outbox, clock: Clock, how: str) -> None:
    """Whoever holds the lock of the name and finds it begun knows that its sender died."""
    record(outbox)
    clock.now += 3
    delivery = record(outbox) if how == "record" else outbox.claim(HOST, ["cat"])[0]
    assert delivery.unsure_until == row(outbox).unsure_until == NOW + 3 + LATEST
    outbox.settle([], [Failure(delivery, clock.now, "no", unsure_until=NOW + 9999)])
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + 9999  # not begun: not unsure for longer
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + 9999


def test_a_recording_that_does_not_begin_leaves_it_begun(outbox: Outbox) -> None:
    """What a dead sender began stays unsure, however often the name is recorded in between."""
    record(outbox)
    record(outbox, begin=False)
    outbox.owe(HOST, ["cat"])
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + LATEST


def test_only_what_is_still_owed_is_claimed(outbox: Outbox) -> None:
    """In the order asked for; what others settled meanwhile is left out."""
    for name in ("a", "b", "c"):
        record(outbox, name, begin=False)
    outbox.settle([row(outbox, "b")])
    assert [delivery.name for delivery in outbox.claim(HOST, ["c", "b", "a", "d"])] == ["c", "a"]
    assert outbox.claim(OTHER, ["a"]) == []


def test_released_is_as_before_but_for_its_time(outbox: Outbox) -> None:
    """It was not tried, so it is not unsure and has failed no more often."""
    delivery = record(outbox)
    outbox.release([delivery], NOW + 4)
    assert outbox.claim(HOST, ["cat"]) == [delivery._replace(due=NOW + 4, fresh=False, entombed=None)]
    record(outbox)
    outbox.release([delivery], NOW + 9)
    assert row(outbox).due == NOW


def test_cancelled_leaves_what_was_owed_before(outbox: Outbox, clock: Clock) -> None:
    """A fresh row goes, one that was owed before is due at once, one recorded again meanwhile stays as it is."""
    record(outbox, host=OTHER, begin=False)
    clock.now += 5
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW + 60)
    outbox.cancel(list(recorded.values()))
    assert list(outbox.deliveries("cat")) == [OTHER]
    assert (row(outbox, host=OTHER).due, row(outbox, host=OTHER).since) == (NOW + 5, NOW)
    fresh = record(outbox, "dog", due=NOW + 60)
    record(outbox, "dog", begin=False, due=NOW + 70)
    outbox.cancel([fresh])
    assert row(outbox, "dog").due == NOW + 70


def test_what_a_dead_process_began_stays_begun_whoever_records_and_cancels(outbox: Outbox, clock: Clock) -> None:
    """A save in mode async that is refused has sent nothing, and knows nothing of what was sent before it."""
    record(outbox, "cat", begin=True)
    later = outbox.record("cat", [HOST], begin=False, due=NOW)
    outbox.cancel(list(later.values()))
    (claimed,) = outbox.claim(HOST, ["cat"])
    assert claimed.unsure_until == clock.now + LATEST


def test_a_way_is_that_of_the_latest_change(path: str, clock: Clock) -> None:
    """It is kept by a restart; of what nobody noted it is empty, and so it is of what is owed once more as it is."""
    outbox = Outbox(path, clock=clock)
    for way in ("first", "second"):
        outbox.record("cat", [HOST], begin=False, due=NOW, way=way)
    outbox.owe(HOST, ["dog"])
    outbox.close()
    outbox = Outbox(path, clock=clock)
    assert [outbox.way(HOST, name) for name in ("cat", "dog", "none")] == ["second", "", ""]
    outbox.owe(HOST, ["cat"])
    assert outbox.way(HOST, "cat") == ""
    outbox.record("cat", [HOST], begin=False, due=NOW, way="third")
    outbox.record("cat", [HOST], begin=False, due=NOW)
    assert outbox.way(HOST, "cat") == ""


# Versions


@pytest.mark.parametrize("jump", [-86400.0, 0.0, 3600.0, 1e12])
def test_a_version_is_the_time_and_never_goes_back(outbox: Outbox, clock: Clock, jump: float) -> None:
    """Whatever the clock does; a clock that is a thousand years ahead leaves room all the same."""
    first = record(outbox)
    clock.now += jump
    second, third = record(outbox), record(outbox, "dog")
    assert first.version == int(NOW * 1e9)
    assert second.version == max(first.version + ROOM, min(int(clock.now * 1e9), VERSION_MAX))
    assert third.version == second.version + ROOM


def test_an_outbox_that_is_new_goes_on_above_what_was_sent_before_it(tmp_path: Path, clock: Clock) -> None:
    """Also one that was restored from a backup, and a second one on the same root: all go by the time."""
    versions = []
    for name in ("lost", "new"):
        clock.now += 1
        outbox = Outbox(str(tmp_path / name), clock=clock)
        versions.append(record(outbox).version)
        outbox.close()
    assert versions == sorted(set(versions))


def test_each_attempt_has_a_higher_version_than_those_before_it(outbox: Outbox, clock: Clock) -> None:
    """Of a failed one, of one whose sender died, and of their withdrawals; the next recording is above all."""
    delivery = record(outbox)
    versions = [delivery.version, delivery.taken_back().version]
    outbox.settle([], [Failure(delivery, NOW, "no")])
    for _ in range(2):
        (delivery,) = outbox.claim(HOST, ["cat"])  # the second time it is found begun
        versions += [delivery.version, delivery.taken_back().version]
    outbox.settle([delivery])  # and stays, since it is unsure
    (delivery,) = outbox.claim(HOST, ["cat"])
    assert delivery.version >= versions[-2]
    assert versions == sorted(set(versions))
    later = record(outbox).version
    assert later > versions[-1] and later > delivery._replace(attempts=10**9).taken_back().version


def test_a_version_above_that_of_a_host_stays_above(outbox: Outbox, path: str, clock: Clock) -> None:
    """All that is recorded afterwards is higher still, by this process and by the next."""
    theirs = record(outbox).version + 10**12
    above = outbox.raise_above(theirs)
    assert theirs < above < record(outbox).version
    outbox.close()
    assert record(Outbox(path, clock=clock)).version > above
    assert Outbox(path, clock=clock).raise_above(5) > above
