"""Quoting: a value from outside stays in its place in a file of nginx, lighttpd, Apache or systemd.

Each function returns the value in double quotes, as that language reads it back to the very same characters, or
raises ConfigError in one line if the language has no way to write it. ``setting`` is what the error names. What
is no printable text is refused for all of them: a newline, an invisible character, a byte that is no UTF-8.
"""

from __future__ import annotations

from ..errors import ConfigError, shown

__all__ = ["apache", "lighttpd", "nginx", "printable", "systemd", "systemd_argument"]

MAX = 1024  # bytes of a value: nginx reads its file in blocks of 4 KiB, and a word must fit in one when it is escaped


def printable(setting: str, value: str) -> str:
    """Return ``value`` as it is, if it can stand in one line of a file."""
    if not value.isprintable():  # false for half a surrogate pair, too, which a path that is no UTF-8 has
        raise ConfigError(setting, f"{shown(value)} holds a character that is not printable; use another")
    if len(value.encode()) > MAX:
        raise ConfigError(setting, f"is longer than {MAX} bytes; use a shorter one")
    return value


def nginx(setting: str, value: str) -> str:
    """In double quotes a backslash escapes a quote and itself; nothing escapes the ``$`` of a variable."""
    if "$" in printable(setting, value):
        raise ConfigError(setting, f"{shown(value)} holds a $, which nginx takes for a variable; use another path")
    return f'"{_escaped(value)}"'


def lighttpd(setting: str, value: str) -> str:
    """In double quotes a backslash escapes a quote, and nothing else: not even itself at the end."""
    if "\\" in printable(setting, value):
        raise ConfigError(setting, f"{shown(value)} holds a backslash, which lighttpd cannot quote; use another path")
    return '"{}"'.format(value.replace('"', '\\"'))


def apache(setting: str, value: str) -> str:
    """In double quotes a backslash escapes a quote and itself; nothing escapes the ``${`` of a variable."""
    if "${" in printable(setting, value):
        raise ConfigError(setting, f"{shown(value)} holds ${{, which Apache takes for a variable; use another path")
    return f'"{_escaped(value)}"'


def systemd(setting: str, value: str) -> str:
    """As systemd.syntax(7) says: in double quotes, with C's escapes, and ``%`` doubled, which begins a specifier."""
    return '"{}"'.format(_escaped(printable(setting, value)).replace("%", "%%"))


def systemd_argument(setting: str, value: str) -> str:
    """An argument in ExecStart, in which ``$`` begins a variable too and is doubled (systemd.service(5))."""
    return systemd(setting, value).replace("$", "$$")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
