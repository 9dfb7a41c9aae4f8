"""What the values of settings may be: each is checked, and brought into its normal form; each text is read.

A check returns the value as it is kept, a reader the value that a text means. Both raise ValueError with what the
setting takes; whoever calls them knows how it is called in the source.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import names
from ..errors import NameRejected, shown

MAX_TIMEOUT = 3600.0  # seconds: above an hour it is a mistake in the unit
MAX_DAYS = 36500.0  # a hundred years: above it is a mistake in the unit
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def wrong(takes: str, found: object) -> ValueError:
    return ValueError(f"takes {takes}, not {shown(found)} ({type(found).__name__})")


def absolute_path(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or "\0" in path or not os.path.isabs(path):
        problem = wrong("an absolute path, such as /srv/media", value)
        raise (
            ValueError(f"{problem}: another process starts elsewhere") if isinstance(path, str) and path else problem
        )
    return path


def optional_path(value: Any) -> str | None:
    return None if value is None else absolute_path(value)


def host_list(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        problem = f"takes a list of strings such as 'media-01:8080', not {type(value).__name__}"
        raise ValueError(problem)  # noqa: TRY004 - becomes a ConfigError; the value could hold a password
    return tuple(value)


def folders(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise wrong("a list of folders below media_root, such as ['uploads']", value)
    try:
        return tuple(sorted({names.check(each.strip("/") if isinstance(each, str) else each) for each in value}))
    except NameRejected as error:
        raise ValueError(f"takes folders below media_root, and {shown(error.name)} {error.reason}") from None


def one_of(*words: str) -> Callable[[Any], str]:
    """Return a check that takes one of ``words``."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise wrong(f"{', '.join(words[:-1])} or {words[-1]}", value)
        return value

    return check


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong("True or False", value)
    return value


def required_hosts(value: Any) -> str | int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not number and not (isinstance(value, str) and value in ("all", "majority")):
        raise wrong("all, majority, or a number of media servers from 1 on", value)
    return value  # type: ignore[no-any-return]


def seconds(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= MAX_TIMEOUT:  # false for nan, too
        raise wrong(f"seconds, above 0 and at most {MAX_TIMEOUT:g}", value)
    return float(value)


def days(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= MAX_DAYS:  # false for nan, too
        raise wrong(f"days, above 0 and at most {MAX_DAYS:g}", value)
    return float(value)


def read_boolean(text: str) -> bool:
    try:
        return WORDS[text.strip().lower()]
    except KeyError:
        raise wrong("true or false (or yes or no, on or off, 1 or 0)", text) from None


def read_list(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\s,]+", text))


def read_folders(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def read_word(text: str) -> str:
    return text.strip().lower()


def positive(value: Any) -> int | float:
    """Take a number above 0, of whatever the setting counts."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:  # true for nan, too
        raise wrong("a positive number", value)
    return value


def strings(value: Any) -> tuple[str, ...]:
    """Take a list of strings; one string alone would be a list of its letters."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise wrong("a list of strings", value)
    listed = tuple(value)
    if not all(isinstance(each, str) for each in listed):
        raise wrong("a list of strings", value)
    return listed


def optional_paths(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    paths = strings(value)
    if not all(path.startswith("/") for path in paths):
        raise wrong("paths that begin with /, such as ['/photos']", value)
    return paths


def optional_words(value: Any) -> frozenset[str] | None:
    """Take extensions or media types, in any case and with or without the dot of an extension."""
    return None if value is None else frozenset(each.lower().lstrip(".") for each in strings(value))


def folder_of_uploads(value: Any) -> Any:
    """Take a strftime pattern that makes a name, or a callable."""
    if callable(value):
        return value
    if not isinstance(value, str):
        raise wrong("a strftime pattern or a callable of field, filename and environ", value)
    made = time.strftime(value, time.gmtime(0)).strip("/")
    try:
        if made:
            names.check(made)
    except NameRejected as error:
        raise ValueError(
            f"takes a pattern that makes a folder below media_root, and {shown(made)} {error.reason}"
        ) from None
    return value


def file_mode(value: Any) -> int:
    """Take a mode as chmod does, in which the owner may read and write."""
    return _mode(value, 0o600, "a mode such as 0644, which lets its owner read and write")


def folder_mode(value: Any) -> int:
    """Take a mode as chmod does, in which the owner may do everything."""
    return _mode(value, 0o700, "a mode such as 0755, which lets its owner do everything")


def _mode(value: Any, least: int, takes: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777 or value & least != least:
        raise wrong(takes, value)
    return value


def read_mode(text: str) -> Any:
    """Read a mode in octal, as chmod and Django's settings write it: 644, 0644 or 0o644."""
    try:
        return int(text.strip().removeprefix("0o"), 8)
    except ValueError:
        return text  # for the check to refuse


def read_number(text: str) -> Any:
    try:
        return int(text) if text.strip().isdecimal() else float(text)
    except ValueError:
        return text  # for the check to refuse
