"""The settings: one frozen record of them, checked once, and one table that feeds every source.

Those of the replicating library are here; it takes no notice of those of the middleware, which are in ``uploads`` and
``limits``, and are part of the same record so that one environment, ini file or settings module gives them all. No
environment is read and no path touched here; the callers hand in what they found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..hosts import Host, parse_hosts, public_url
from .rows import default_of, row, rows_of
from .sources import built, is_ours, keywords_of, ours_in, outer_names_of
from .uploads import UploadSettings
from .values import (
    absolute_path,
    boolean,
    days,
    folders,
    host_list,
    one_of,
    optional_path,
    read_boolean,
    read_folders,
    read_list,
    read_mode,
    read_number,
    read_word,
    seconds,
)
from .values import file_mode as file_mode_of
from .values import folder_mode as folder_mode_of
from .values import required_hosts as required_hosts_of

__all__ = ["Settings", "settings_table"]

MODES = ("hybrid", "async", "distributed")


@dataclass(frozen=True, kw_only=True)
class Settings(UploadSettings):
    """All settings, each checked and in its normal form. Raises ConfigError at once if one is not right.

    ``timeout`` is in seconds. ``media_root`` and ``outbox`` take ``os.PathLike`` too, ``media_hosts`` any iterable.
    """

    media_root: str = field(
        metadata=row("MEDIA_ROOT", "Absolute path of the folder that holds the master.", absolute_path)
    )
    # What Django's documentation and most configurations of media servers use.
    media_url: str = field(
        default="/media/",
        metadata=row("MEDIA_URL", "URL, or path of it, under which the public sees the media root.", public_url),
    )
    # None: a single server is the way to begin.
    media_hosts: tuple[str, ...] = field(
        default=(),
        metadata=row(
            "RESTO_MEDIA_HOSTS",
            "Media servers, as HOST:PORT (names hang below the path of MEDIA_URL) or as full URLs.",
            host_list,
            read=read_list,
            default="none",
        ),
    )
    # The only mode in which a file that was acknowledged is both here and on the media servers.
    mode: str = field(
        default="hybrid",
        metadata=row(
            "RESTO_MODE",
            "hybrid (master, then media servers), async (media servers later) or distributed (no master kept).",
            one_of(*MODES),
            read=read_word,
        ),
    )
    # The caller hears of a failure, since nobody else can act on it.
    fatal_exceptions: bool = field(
        default=True,
        metadata=row(
            "RESTO_FATAL_EXCEPTIONS",
            "Whether a save that reaches too few media servers fails; else each failure is logged.",
            boolean,
            read=read_boolean,
        ),
    )
    # A reader may be sent to any media server.
    required: str | int = field(
        default="all",
        metadata=row(
            "RESTO_REQUIRED",
            "Media servers that must hold a file before a save returns: all, majority or a number. "
            "Used if fatal_exceptions is True.",
            required_hosts_of,
            read=read_word,
        ),
    )
    # An error's one line says what to do; the traceback is for those who look for a defect.
    show_traceback: bool = field(
        default=False,
        metadata=row(
            "RESTO_SHOW_TRACEBACK", "Whether failures are logged with a traceback.", boolean, read=read_boolean
        ),
    )
    # Seconds: long for a local network, short for the person who waits for the page.
    timeout: float = field(
        default=2.0,
        metadata=row(
            "RESTO_TIMEOUT",
            "Seconds without progress (connecting, or no byte that arrives) after which a media server is given up.",
            seconds,
            read=read_number,
            default="2",
        ),
    )
    # None: beside the files that it speaks of.
    outbox: str | None = field(
        default=None,
        metadata=row(
            "RESTO_OUTBOX",
            "Absolute path of the outbox; put it on a local disk if the media root is on NFS.",
            optional_path,
            default="MEDIA_ROOT/.resto/outbox.sqlite3",
        ),
    )
    # None: whoever can make a link in the folder of uploads must not choose what is sent to the media servers.
    linked_folders: tuple[str, ...] = field(
        default=(),
        metadata=row(
            "RESTO_LINKED_FOLDERS",
            "Folders below media_root, separated by commas, that may be symbolic links or on disks of their own; "
            "no other link is followed.",
            folders,
            read=read_folders,
            default="none",
        ),
    )
    # A web server of another user has to read them, whatever the umask of the application is; as Django's uploads.
    file_mode: int = field(
        default=0o644,
        metadata=row(
            "RESTO_FILE_MODE",
            "Mode of the files in the media root, in octal; the umask does not change it.",
            file_mode_of,
            read=read_mode,
            default="0644",
        ),
    )
    folder_mode: int = field(
        default=0o755,
        metadata=row(
            "RESTO_FOLDER_MODE",
            "Mode of folders that are made in it; the setgid bit of the folder above is kept.",
            folder_mode_of,
            read=read_mode,
            default="0755",
        ),
    )
    # What was acknowledged survives a power cut; it costs 0.4 ms for a small file.
    fsync: bool = field(
        default=True,
        metadata=row(
            "RESTO_FSYNC", "Whether a file is durable on the disk before a save returns.", boolean, read=read_boolean
        ),
    )
    # Days: a media server that was away for a season must not bring deleted files back.
    tombstone_days: float = field(
        default=90.0,
        metadata=row(
            "RESTO_TOMBSTONE_DAYS",
            "Days for which it is remembered that a name was deleted, for media servers that come back.",
            days,
            read=read_number,
            default="90",
        ),
    )
    # What is owed must not wait for somebody to remember it.
    background: bool = field(
        default=True,
        metadata=row(
            "RESTO_BACKGROUND",
            "Whether a thread of each process delivers what is owed; else cron has to run resto drain.",
            boolean,
            read=read_boolean,
        ),
    )
    # None: the authorities that the system trusts.
    ca_bundle: str | None = field(
        default=None,
        metadata=row(
            "RESTO_CA_BUNDLE",
            "Absolute path of the authorities (PEM) that vouch for https:// media servers, in place of the system's.",
            optional_path,
            default="the system's",
        ),
    )
    # None: most media servers know a writer by its address.
    client_cert: str | None = field(
        default=None,
        metadata=row(
            "RESTO_CLIENT_CERT",
            "Absolute path of the certificate (PEM, with its key) that https:// media servers are shown.",
            optional_path,
            default="none",
        ),
    )
    # None: it is in the file of the certificate.
    client_key: str | None = field(
        default=None,
        metadata=row(
            "RESTO_CLIENT_KEY",
            "Absolute path of the key of client_cert, if that is a file of its own.",
            optional_path,
            default="client_cert",
        ),
    )
    # None: as for a certificate. A path, so that no secret is in an environment, a command line or a repr.
    credentials_file: str | None = field(
        default=None,
        metadata=row(
            "RESTO_CREDENTIALS_FILE",
            "Absolute path of a file with the passwords, tokens and secrets for media servers.",
            optional_path,
            default="none",
        ),
    )
    _hosts: tuple[Host, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
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
        """How many media servers must hold a file before a save returns; 0 if there are none."""
        count = len(self._hosts)
        if not count or self.required == "all":
            return count
        return count // 2 + 1 if self.required == "majority" else int(self.required)

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Settings:
        """Return the settings that a program names as keywords; values are typed, text is not parsed."""
        return built(cls, keywords, keywords_of(cls), text=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings in ``environ``: MEDIA_ROOT, MEDIA_URL and RESTO_...; others are not looked at."""
        return built(cls, ours_in(environ), outer_names_of(cls))

    @classmethod
    def from_mapping(cls, source: object) -> Settings:
        """Return the settings in Flask's ``app.config`` or Django's ``settings``, by the names of the environment.

        A mapping is read by its keys, any other object by its attributes. Values may be typed or text.
        """
        if not isinstance(source, Mapping):
            source = {name: getattr(source, name) for name in dir(source) if is_ours(name)}
        return built(cls, ours_in(source), outer_names_of(cls))

    @classmethod
    def from_ini(cls, section: Mapping[str, str]) -> Settings:
        """Return the settings of a PasteDeploy section, named as keywords or as in the environment."""
        return built(cls, section, keywords_of(cls) | outer_names_of(cls))


def settings_table() -> list[tuple[str, str, str, str]]:
    """Return keyword, name in the environment, default as text, and meaning of each setting."""
    return [(each.name, row.name, default_of(each, row), row.meaning) for each, row in rows_of(Settings)]
