"""The table of settings is kept with the fields."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from resto_wsgi.config.rows import Checked, default_of, row, rows_of
from resto_wsgi.errors import ConfigError


def even(value: int) -> int:
    if value % 2:
        raise ValueError("takes an even number")
    return value // 2


@dataclass(frozen=True, kw_only=True)
class Base(Checked):
    first: int = field(default=2, metadata=row("FIRST", "The first.", even))
    hidden: int = 7


@dataclass(frozen=True, kw_only=True)
class Own(Base):
    second: int = field(metadata=row("SECOND", "The second.", even, default="none"))
    third: int = field(default=4, metadata=row("THIRD", "The third.", even, default="four"))


def test_own_settings_come_before_inherited_ones() -> None:
    """And what is no setting is left out."""
    assert [(each.name, row.name) for each, row in rows_of(Own)] == [
        ("second", "SECOND"),
        ("third", "THIRD"),
        ("first", "FIRST"),
    ]


def test_defaults_are_told_to_people() -> None:
    """As they are, in other words, or that there is none."""
    assert [default_of(each, row) for each, row in rows_of(Own)] == ["required", "four", "2"]


def test_each_value_is_kept_as_its_check_returns_it() -> None:
    """The error of a check names the setting."""
    made = Own(second=10)
    assert (made.first, made.second, made.third, made.hidden) == (1, 5, 2, 7)
    with pytest.raises(ConfigError, match=r"^first: takes an even number$"):
        Own(second=2, first=3)
