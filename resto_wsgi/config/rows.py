"""The table of settings: what is known of each beside its keyword and default, kept with the field of a dataclass.

Keywords, the environment, Django, Flask, PasteDeploy and the documentation all read it, so that a setting is added in
one place. No value is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from ..errors import ConfigError

__all__ = ["Checked", "Row", "default_of", "row", "rows_of"]


@dataclass(frozen=True)
class Row:
    """What the table says of one setting beside its keyword and default.

    ``check`` returns the value as it is kept, ``read`` the value that a text means; both raise ValueError,
    or ConfigError with the keyword.
    """

    name: str
    meaning: str
    check: Callable[[Any], Any]
    read: Callable[[str], Any] = str.strip
    default: str = ""  # for people, if the default is not its own best text


def row(name: str, meaning: str, check: Callable[[Any], Any], **more: Any) -> Mapping[str, Row]:
    """Return the metadata of a field that is a setting."""
    return {"row": Row(name, meaning, check, **more)}


def rows_of(cls: type[Any]) -> list[tuple[Field[Any], Row]]:
    """Return the fields of a dataclass that are settings, each with its row; those of its bases come after its own."""
    bases = [base for base in cls.__bases__ if is_dataclass(base)]
    inherited = [pair for base in bases for pair in rows_of(base)]
    # `fields` also gives those of the bases, which would be in the table twice.
    names = {each.name for each, _ in inherited}
    own = [each for each in fields(cls) if each.metadata and each.name not in names]
    return [(each, each.metadata["row"]) for each in own] + inherited


def default_of(each: Field[Any], row: Row) -> str:
    """Return the default of a setting as people read it."""
    return "required" if each.default is MISSING else row.default or str(each.default)


class Checked:
    """A frozen dataclass of settings, each of which is checked when it is made."""

    def __post_init__(self) -> None:
        for each, row in rows_of(type(self)):
            try:
                value = row.check(getattr(self, each.name))
            except ValueError as error:
                raise ConfigError(each.name, str(error)) from None
            object.__setattr__(self, each.name, value)
