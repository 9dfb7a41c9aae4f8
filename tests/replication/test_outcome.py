"""What came of a name at each host, told to people by the labels that they gave."""

from __future__ import annotations

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.replication.outcome import by_label, failures_of, too_few

ONE, TWO = Host("media-01:8080", "http://media-01:8080/media"), Host("media-02", "http://media-02/media")
AWAY = DeliveryError(TWO.label, "cat", "refuses connections")


def test_people_are_told_labels() -> None:
    """In the order of the hosts, whatever the values are."""
    assert list(by_label({TWO: 2, ONE: 1}).items()) == [("media-02", 2), ("media-01:8080", 1)]


def test_only_those_that_failed_are_failures() -> None:
    """With the very error of each."""
    assert failures_of({ONE: None, TWO: AWAY}) == {TWO: AWAY}
    assert failures_of({}) == {}


def test_too_few_hosts_are_an_error_that_counts_and_names_them() -> None:
    """By label; those that did it are counted, and not named."""
    error = too_few("save", "cat", {ONE: None, TWO: AWAY}, 2)
    assert (error.action, error.name, error.done, error.required) == ("save", "cat", 1, 2)
    assert error.failures == {"media-02": AWAY}
    assert str(error) == "save 'cat': done by 1 media servers, 2 required: media-02: refuses connections"
