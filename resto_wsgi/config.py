"""The settings: one frozen record of them, checked once, and one table that feeds every source.

The table is the fields of ``Settings`` with their metadata: what a setting is called outside, how its text is read,
how its value is checked, what it means. Keywords, the environment, Django, Flask, PasteDeploy and the documentation
all read it, so that a setting is added in one place. An error names the setting as its source spells it, and the
values that it takes. No environment is read and no path touched here; the callers hand in what they found.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from . import names
from .errors import ConfigError, NameRejected, shown
from .hosts import Host, parse_hosts, public_url

__all__ = ["Settings", "settings_table"]

MODES = ("hybrid", "async", "distributed")
MAX_TIMEOUT = 3600.0  # seconds: above an hour it is a mistake in the unit
MAX_DAYS = 36500.0  # a hundred years: above it is a mistake in the unit
PREFIX = "RESTO_"  # whatever begins with it is ours, so that a misspelt setting is found
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class _Row:
    """What the table says of one setting beside its keyword and default.

    ``check`` returns the value as it is kept, ``read`` the value that a text means; both raise ValueError,
    or ConfigError with the keyword.
    """

    name: str
    meaning: str
    check: Callable[[Any], Any]
    read: Callable[[str], Any] = str.strip
    default: str = ""  # for people, where the default is not its own best text


def _wrong(takes: str, found: object) -> ValueError:
    return ValueError(f"takes {takes}, not {shown(found)} ({type(found).__name__})")


def _absolute_path(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or "\0" in path or not os.path.isabs(path):
        raise _wrong("an absolute path, such as /srv/media", value)
    return path


def _optional_path(value: Any) -> str | None:
    return None if value is None else _absolute_path(value)


def _host_list(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        problem = f"takes a list of strings such as 'media-01:8080', not {type(value).__name__}"
        raise ValueError(problem)  # noqa: TRY004 - becomes a ConfigError; the value could hold a password
    return tuple(value)


def _folders(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _wrong("a list of folders below media_root, such as ['uploads']", value)
    try:
        return tuple(sorted({names.check(each.strip("/") if isinstance(each, str) else each) for each in value}))
    except NameRejected as error:
        raise ValueError(f"takes folders below media_root, and {shown(error.name)} {error.reason}") from None


def _mode(value: Any) -> str:
    if not isinstance(value, str) or value not in MODES:
        raise _wrong(f"{', '.join(MODES[:-1])} or {MODES[-1]}", value)
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong("True or False", value)
    return value


def _required(value: Any) -> str | int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not number and not (isinstance(value, str) and value in ("all", "majority")):
        raise _wrong("all, majority, or a number of media servers from 1 on", value)
    return value  # type: ignore[no-any-return]


def _seconds(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= MAX_TIMEOUT:  # false for nan, too
        raise _wrong(f"seconds, above 0 and at most {MAX_TIMEOUT:g}", value)
    return float(value)


def _days(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= MAX_DAYS:  # false for nan, too
        raise _wrong(f"days, above 0 and at most {MAX_DAYS:g}", value)
    return float(value)


def _read_bool(text: str) -> bool:
    try:
        return WORDS[text.strip().lower()]
    except KeyError:
        raise _wrong("true or false (or yes or no, on or off, 1 or 0)", text) from None


def _read_hosts(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\s,]+", text))


def _read_folders(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _read_word(text: str) -> str:
    return text.strip().lower()


def _read_number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text  # for the check to refuse


def _row(name: str, meaning: str, check: Callable[[Any], Any], **more: Any) -> Mapping[str, _Row]:
    return {"row": _Row(name, meaning, check, **more)}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, each checked and in its normal form. Raises ConfigError at once where one is not right.

    ``timeout`` is in seconds. ``media_root`` and ``outbox`` take ``os.PathLike`` too, ``media_hosts`` any iterable.
    """

    media_root: str = field(
        metadata=_row("MEDIA_ROOT", "Absolute path of the folder that holds the master.", _absolute_path)
    )
    # What Django's documentation and most configurations of media servers use.
    media_url: str = field(
        default="/media/",
        metadata=_row("MEDIA_URL", "URL, or path of it, under which the public sees the media root.", public_url),
    )
    # None: a single server is the way to begin.
    media_hosts: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            "RESTO_MEDIA_HOSTS",
            "Media servers, as HOST:PORT (names hang below the path of MEDIA_URL) or as full URLs.",
            _host_list,
            read=_read_hosts,
            default="none",
        ),
    )
    # The only mode in which a file that was acknowledged is both here and on the media servers.
    mode: str = field(
        default="hybrid",
        metadata=_row(
            "RESTO_MODE",
            "hybrid (master, then media servers), async (media servers later) or distributed (no master kept).",
            _mode,
            read=_read_word,
        ),
    )
    # The caller hears of a failure, since nobody else can act on it.
    fatal_exceptions: bool = field(
        default=True,
        metadata=_row(
            "RESTO_FATAL_EXCEPTIONS",
            "Whether a save that reaches too few media servers fails; else each failure is logged.",
            _bool,
            read=_read_bool,
        ),
    )
    # A reader may be sent to any media server.
    required: str | int = field(
        default="all",
        metadata=_row(
            "RESTO_REQUIRED",
            "Media servers that must hold a file before a save returns: all, majority or a number. "
            "Used where fatal_exceptions is True.",
            _required,
            read=_read_word,
        ),
    )
    # An error's one line says what to do; the traceback is for those who look for a defect.
    show_traceback: bool = field(
        default=False,
        metadata=_row("RESTO_SHOW_TRACEBACK", "Whether failures are logged with a traceback.", _bool, read=_read_bool),
    )
    # Seconds: long for a local network, short for the person who waits for the page.
    timeout: float = field(
        default=2.0,
        metadata=_row(
            "RESTO_TIMEOUT",
            "Seconds without progress (connecting, or no byte moved) after which a media server is given up.",
            _seconds,
            read=_read_number,
            default="2",
        ),
    )
    # None: beside the files that it speaks of.
    outbox: str | None = field(
        default=None,
        metadata=_row(
            "RESTO_OUTBOX",
            "Absolute path of the outbox; put it on a local disk where the media root is on NFS.",
            _optional_path,
            default="MEDIA_ROOT/.resto/outbox.sqlite3",
        ),
    )
    # None: whoever can make a link in the folder of uploads must not choose what is sent to the media servers.
    linked_folders: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            "RESTO_LINKED_FOLDERS",
            "Folders below media_root, separated by commas, that may be symbolic links or on disks of their own; "
            "no other link is followed.",
            _folders,
            read=_read_folders,
            default="none",
        ),
    )
    # What was acknowledged survives a power cut; it costs 0.4 ms for a small file.
    fsync: bool = field(
        default=True,
        metadata=_row(
            "RESTO_FSYNC", "Whether a file is durable on the disk before a save returns.", _bool, read=_read_bool
        ),
    )
    # Days: a media server that was away for a season must not bring deleted files back.
    tombstone_days: float = field(
        default=90.0,
        metadata=_row(
            "RESTO_TOMBSTONE_DAYS",
            "Days for which it is remembered that a name was deleted, for media servers that come back.",
            _days,
            read=_read_number,
            default="90",
        ),
    )
    # What is owed must not wait for somebody to remember it.
    background: bool = field(
        default=True,
        metadata=_row(
            "RESTO_BACKGROUND",
            "Whether a thread of each process delivers what is owed; else cron has to run resto drain.",
            _bool,
            read=_read_bool,
        ),
    )
    # None: the authorities that the system trusts.
    ca_bundle: str | None = field(
        default=None,
        metadata=_row(
            "RESTO_CA_BUNDLE",
            "Absolute path of the authorities (PEM) that vouch for https:// media servers, in place of the system's.",
            _optional_path,
            default="the system's",
        ),
    )
    # None: most media servers know a writer by its address.
    client_cert: str | None = field(
        default=None,
        metadata=_row(
            "RESTO_CLIENT_CERT",
            "Absolute path of the certificate (PEM, with its key) that https:// media servers are shown.",
            _optional_path,
            default="none",
        ),
    )
    # None: it is in the file of the certificate.
    client_key: str | None = field(
        default=None,
        metadata=_row(
            "RESTO_CLIENT_KEY",
            "Absolute path of the key of client_cert, where that is a file of its own.",
            _optional_path,
            default="client_cert",
        ),
    )
    # None: as for a certificate. A path, so that no secret is in an environment, a command line or a repr.
    credentials_file: str | None = field(
        default=None,
        metadata=_row(
            "RESTO_CREDENTIALS_FILE",
            "Absolute path of a file with the passwords, tokens and secrets for media servers.",
            _optional_path,
            default="none",
        ),
    )
    _hosts: tuple[Host, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for each, row in _table():
            try:
                value = row.check(getattr(self, each.name))
            except ValueError as error:
                raise ConfigError(each.name, str(error)) from None
            object.__setattr__(self, each.name, value)
        object.__setattr__(self, "_hosts", parse_hosts(self.media_hosts, self.media_url))
        if isinstance(self.required, int) and self.required > len(self._hosts):
            problem = f"takes at most {len(self._hosts)}, the number of media servers, not {self.required}"
            raise ConfigError("required", problem)
        if self.client_key and not self.client_cert:
            raise ConfigError("client_key", "is the key of client_cert, which is not given")

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The media servers, in the order of ``media_hosts``."""
        return self._hosts

    @property
    def required_hosts(self) -> int:
        """How many media servers must hold a file before a save returns; 0 where there are none."""
        count = len(self._hosts)
        if not count or self.required == "all":
            return count
        return count // 2 + 1 if self.required == "majority" else int(self.required)

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Settings:
        """Return the settings that a program names as keywords; values are typed, text is not parsed."""
        return _build(cls, keywords, {each.name: each.name for each, _ in _table()}, text=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings in ``environ``: MEDIA_ROOT, MEDIA_URL and RESTO_...; others are not looked at."""
        return _build(cls, _ours(environ), _outer_names())

    @classmethod
    def from_mapping(cls, source: object) -> Settings:
        """Return the settings in Flask's ``app.config`` or Django's ``settings``, by the names of the environment.

        A mapping is read by its keys, any other object by its attributes. Values may be typed or text.
        """
        if not isinstance(source, Mapping):
            source = {name: getattr(source, name) for name in dir(source) if _is_ours(name)}
        return _build(cls, _ours(source), _outer_names())

    @classmethod
    def from_ini(cls, section: Mapping[str, str]) -> Settings:
        """Return the settings of a PasteDeploy section, named as keywords or as in the environment."""
        return _build(cls, section, {each.name: each.name for each, _ in _table()} | _outer_names())


def settings_table() -> list[tuple[str, str, str, str]]:
    """Return keyword, name in the environment, default as text, and meaning of each setting."""
    return [(each.name, row.name, _default(each, row), row.meaning) for each, row in _table()]


def _table() -> list[tuple[Field[Any], _Row]]:
    return [(each, each.metadata["row"]) for each in fields(Settings) if each.metadata]


def _default(each: Field[Any], row: _Row) -> str:
    return "required" if each.default is MISSING else row.default or str(each.default)


def _outer_names() -> dict[str, str]:
    return {row.name: each.name for each, row in _table()}


def _is_ours(name: object) -> bool:
    return isinstance(name, str) and (name.startswith(PREFIX) or name in ("MEDIA_ROOT", "MEDIA_URL"))


def _ours(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: source[name] for name in source if _is_ours(name)}


def _build(
    cls: type[Settings], source: Mapping[str, Any], keywords: Mapping[str, str], *, text: bool = True
) -> Settings:
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
        values[keyword] = _read(name, keyword, value) if text and isinstance(value, str) else value
    if "media_root" not in values:
        raise ConfigError(spelt["media_root"], "is required: give the absolute path of the folder of the master")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(spelt[error.setting], error.problem) from None


def _read(name: str, keyword: str, text: str) -> Any:
    row: _Row = Settings.__dataclass_fields__[keyword].metadata["row"]
    try:
        return row.read(text)
    except ValueError as error:
        raise ConfigError(name, str(error)) from None


def _known(name: str, keywords: Mapping[str, str]) -> str:
    """Return the keyword of a setting; raise ConfigError where the source knows no such name."""
    if name in keywords:
        return keywords[name]
    close = difflib.get_close_matches(name, keywords, 1) or difflib.get_close_matches(name.lower(), keywords, 1)
    advice = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(keywords)}"
    raise ConfigError(name if name.isprintable() else shown(name), f"is not a setting; {advice}")
