"""HTTP dates, of anybody."""

from __future__ import annotations

import pytest

from resto_wsgi.fields.dates import format_date, parse_date


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777.0),
        ("Sun Nov  6 08:49:37 1994", 784111777.0),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 784111777.0),
        ("", None),
        ("soon", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 +9999999999", None),
    ],
)
def test_a_date_is_read_in_each_form_that_http_has(text: str, seconds: float | None) -> None:
    """RFC 9110, section 5.6.7; what is none is None, whatever it is."""
    assert parse_date(text) == seconds


def test_a_date_is_written_as_it_is_read() -> None:
    """In whole seconds."""
    assert format_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"
