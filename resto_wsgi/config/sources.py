"""Where settings come from: each source has names of its own for them, and hears of its mistakes in these.

Here texts are read, names are found and misspelt ones told. What a setting is and which there are is known by the
class that is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import ConfigError, shown
from .rows import Row, rows_of

__all__ = ["built", "is_ours", "keywords_of", "ours_in", "outer_names_of"]

PREFIX = "RESTO_"  # whatever begins with it is ours, so that a misspelt setting is found

T = TypeVar("T")


def keywords_of(cls: type[Any]) -> dict[str, str]:
    """Return the names of the settings as a program spells them."""
    return {each.name: each.name for each, _ in rows_of(cls)}


def outer_names_of(cls: type[Any]) -> dict[str, str]:
    """Return the names of the settings as the environment spells them, each with its keyword."""
    return {row.name: each.name for each, row in rows_of(cls)}


def is_ours(name: object) -> bool:
    """True for a name that must be one of our settings."""
    return isinstance(name, str) and (name.startswith(PREFIX) or name in ("MEDIA_ROOT", "MEDIA_URL"))


def ours_in(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is ours in a source that has other things, too."""
    return {name: source[name] for name in source if is_ours(name)}


def built(cls: type[T], source: Mapping[str, Any], keywords: Mapping[str, str], *, text: bool = True) -> T:
    """Build ``cls`` from a source whose names ``keywords`` maps to ours; errors come back in the source's names."""
    spelt = {
        keyword: name for name, keyword in reversed(list(keywords.items()))
    }  # the first spelling, for what is missing
    values: dict[str, Any] = {}
    for name, value in source.items():
        keyword = _known(name, keywords)
        if keyword in values:
            raise ConfigError(name, f"is the same setting as {spelt[keyword]}; give it once")
        spelt[keyword] = name
        values[keyword] = _read(cls, name, keyword, value) if text and isinstance(value, str) else value
    if "media_root" not in values:
        raise ConfigError(spelt["media_root"], "is required: give the absolute path of the folder of the master")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(spelt[error.setting], error.problem) from None


def _read(cls: type[Any], name: str, keyword: str, text: str) -> Any:
    row: Row = cls.__dataclass_fields__[keyword].metadata["row"]
    try:
        return row.read(text)
    except ValueError as error:
        raise ConfigError(name, str(error)) from None


def _known(name: str, keywords: Mapping[str, str]) -> str:
    """Return the keyword of a setting; raise ConfigError if the source knows no such name."""
    if name in keywords:
        return keywords[name]
    close = difflib.get_close_matches(name, keywords, 1) or difflib.get_close_matches(name.lower(), keywords, 1)
    advice = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(keywords)}"
    raise ConfigError(name if name.isprintable() else shown(name), f"is not a setting; {advice}")
