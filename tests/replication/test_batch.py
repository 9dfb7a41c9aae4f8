"""Batches: which deliveries are made together, and what is said of each."""

from __future__ import annotations

import dataclasses

import pytest
from party import ONE, TWO, unowed

from resto_wsgi.errors import DeliveryError, OutboxError
from resto_wsgi.replication.batch import Batch, our_fault


def parts(batch: Batch) -> list[tuple[list[str], int]]:
    return [([each.name for each in batch.deliveries[part]], at_once) for part, at_once in batch.portions()]


def test_one_name_goes_to_all_hosts_at_the_same_time() -> None:
    """And none of them is given up for what another answered."""
    batch = Batch.of_name(unowed(host) for host in (ONE, TWO))
    assert parts(batch) == [(["cat", "cat"], 2)]
    assert batch.go_on(None) and batch.go_on(DeliveryError("one", "cat", "refuses connections"))


def test_the_first_name_for_a_host_goes_alone() -> None:
    """The others wait for its end, so that a host that fails is asked once; then only so many go at once."""
    batch = Batch.of_host((unowed(ONE, name) for name in "abc"), 2, lambda error: error is None)
    assert parts(batch) == [(["a"], 1), (["b", "c"], 2)]
    assert not batch.go_on(DeliveryError("one", "a", "refuses connections"))


def test_a_batch_may_be_empty() -> None:
    """Where there are no hosts, and where all that was due was settled meanwhile."""
    assert parts(Batch.of_name([])) == [([], 0)]
    assert parts(Batch.of_host([], 8, lambda error: True)) == [([], 1), ([], 8)]


def test_a_batch_is_not_changed() -> None:
    """What was made of it is returned, and never noted in it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Batch.of_name([]).at_once = 2  # type: ignore[misc]


def test_what_failed_on_this_side_is_told_as_such() -> None:
    """It says nothing of the host, and names it as people do."""
    error = our_fault(ONE, "cat", OutboxError("outbox", "no space is left", "free some"), untouched=True)
    assert str(error) == "one: 'cat': this side: outbox 'outbox': no space is left; free some"
    assert (error.ours, error.untouched, error.permanent) == (True, True, False)
