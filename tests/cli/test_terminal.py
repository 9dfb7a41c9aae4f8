"""What the commands show of the text of others, made harmless to a terminal."""

from __future__ import annotations

import pytest

from resto_wsgi.cli.terminal import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat.jpg", "cat.jpg"),
        ("日本 ünï", "日本 ünï"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\x9b31m", r"\x9b31m"),
        ("a\udcffb", r"a\udcffb"),
    ],
)
def test_what_would_steer_a_terminal_is_shown_and_does_nothing(text: str, shown: str) -> None:
    """Escapes, line breaks, a change of direction; all else stays as it is."""
    assert plain(text).plain == shown


def test_text_is_no_markup() -> None:
    """rich would take what stands in brackets for a style, and leave it out."""
    assert plain("[bold]x[/bold] :smile:").plain == "[bold]x[/bold] :smile:"
    assert plain("[link=http://evil]").spans == []


@pytest.mark.parametrize(("longest", "shown"), [(10, "0123456789"), (9, "012345..."), (None, "0123456789")])
def test_text_that_is_too_long_is_cut(longest: int | None, shown: str) -> None:
    """Three dots say that there was more."""
    assert plain("0123456789", longest).plain == shown
