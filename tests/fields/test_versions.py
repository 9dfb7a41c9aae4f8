"""The field that tells the version of a name."""

from __future__ import annotations

import pytest

from resto_wsgi.fields.versions import parse_version


@pytest.mark.parametrize(
    ("value", "version"),
    [
        ("0", 0),
        ("1800000000000000000", 1_800_000_000_000_000_000),
        ("9" * 19, int("9" * 19)),
        ("9" * 20, None),
        ("", None),
        (None, None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1, 2", None),
        ("\u0661", None),
    ],
)
def test_a_version_is_a_number_of_nineteen_digits_at_most(value: str | None, version: int | None) -> None:
    """All else says no version."""
    assert parse_version(value) == version
