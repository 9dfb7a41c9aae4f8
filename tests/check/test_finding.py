"""What a probe returns, and what ends one early."""

from __future__ import annotations

import dataclasses

import pytest

from resto_wsgi.check.finding import Finding, Trouble


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        (Trouble("refuses connections"), "refuses connections"),
        (Trouble("answered 507: its disk is full", 507), "answered 507"),
        (Trouble("its reply is longer than 65536 bytes", 201), "its reply is longer than 65536 bytes"),
    ],
)
def test_trouble_says_the_status_of_a_refusal_and_the_reason_of_all_else(trouble: Trouble, text: str) -> None:
    """The remedy stands beside it, so a refusal needs no more than its number."""
    assert str(trouble) == text


def test_a_finding_is_a_value() -> None:
    """What was found is not changed by those who compare and print it."""
    finding = Finding("write", "ok", "a file is put and read back")
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.verdict = "unsafe"  # type: ignore[misc]
    assert finding == Finding("write", "ok", "a file is put and read back", "")
