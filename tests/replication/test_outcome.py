"""What came of a name at each host, told to people by the labels that they gave."""

from __future__ import annotations

from party import ONE, TWO, unowed

from resto_wsgi.errors import DeliveryError
from resto_wsgi.replication.batch import Attempt
from resto_wsgi.replication.outcome import by_label, errors_of, failures_of, too_few

AWAY = DeliveryError(TWO.label, "cat", "refuses connections")
OUTCOME = {ONE: Attempt(ONE, unowed(ONE), None), TWO: Attempt(TWO, unowed(TWO), AWAY)}


def test_people_are_told_labels() -> None:
    """In the order of the hosts, whatever the values are."""
    assert list(by_label({TWO: 2, ONE: 1}).items()) == [("two", 2), ("one", 1)]


def test_only_those_that_failed_are_failures() -> None:
    """With the very error of each; those that matched are there with None where all are asked for."""
    assert errors_of(OUTCOME) == {ONE: None, TWO: AWAY}
    assert failures_of(OUTCOME) == {TWO: AWAY}
    assert failures_of({}) == errors_of({}) == {}


def test_too_few_hosts_are_an_error_that_counts_and_names_them() -> None:
    """By label; those that did it are counted, and not named."""
    error = too_few("save", "cat", {TWO: AWAY}, done=1, required=2)
    assert (error.action, error.name, error.done, error.required) == ("save", "cat", 1, 2)
    assert error.failures == {"two": AWAY}
    assert str(error) == "save 'cat': done by 1 media server, 2 required: two: refuses connections"
