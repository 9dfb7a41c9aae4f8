"""What the commands show of the text of others, made harmless to a terminal."""

from __future__ import annotations

from rich.text import Text

__all__ = ["plain"]


def plain(text: str, longest: int | None = None) -> Text:
    """Show text as it is, but for what would steer a terminal; it is no markup. ``longest`` is in characters."""
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 3]}..."
    return Text("".join(each if each.isprintable() else ascii(each)[1:-1] for each in text))
