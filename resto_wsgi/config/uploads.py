"""What the middleware does with a request and its files, as far as text can say it; functions are keywords alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from .limits import Limits
from .rows import row
from .values import folder_of_uploads, one_of, optional_paths, optional_words, read_list, read_word, strings

__all__ = ["UploadSettings"]

HANDOFFS = ("original", "reference")
NAMINGS = ("original", "random", "content")
PUBLISH = ("on_success", "always", "manual")


@dataclass(frozen=True, kw_only=True)
class UploadSettings(Limits):
    """The policies of ``UploadMiddleware``, whose docstring says what they mean. Raises ConfigError."""

    # None: all paths. A site that does not say whom it lets upload is warned at start.
    paths: tuple[str, ...] | None = field(
        default=None,
        metadata=row(
            "RESTO_PATHS",
            "Paths, below which requests are caught: /photos is /photos and /photos/1.",
            optional_paths,
            read=read_list,
            default="all",
        ),
    )
    # "": on_success, and nobody has said so.
    publish: str = field(
        default="",
        metadata=row(
            "RESTO_PUBLISH",
            "on_success (files are published when the answer is 2xx or 3xx), always or manual (by the application).",
            one_of("", *PUBLISH),
            read=read_word,
            default="on_success",
        ),
    )
    # The application reads what it would read without us.
    handoff: str = field(
        default="original",
        metadata=row(
            "RESTO_HANDOFF",
            "original (the application reads the client's bytes) or reference (names, in the place of the files).",
            one_of(*HANDOFFS),
            read=read_word,
        ),
    )
    fields: tuple[str, ...] = field(
        default=(),
        metadata=row(
            "RESTO_FIELDS",
            "With handoff reference: the fields whose files are replaced by their names.",
            strings,
            read=read_list,
            default="none",
        ),
    )
    # By month, so that no folder grows without end.
    upload_to: str | Callable[[str, str, dict[str, Any]], str] = field(
        default="uploads/%Y/%m",
        metadata=row(
            "RESTO_UPLOAD_TO",
            "Folder of uploads below media_root, a strftime pattern in UTC; "
            "as a keyword also a function of field, filename and environ.",
            folder_of_uploads,
        ),
    )
    # People find their files again by their names, and nobody guesses them.
    naming: str = field(
        default="original",
        metadata=row(
            "RESTO_NAMING",
            "original (the filename, cleaned, with a random suffix), random or content (the SHA-256).",
            one_of(*NAMINGS),
            read=read_word,
        ),
    )
    allowed_types: frozenset[str] | None = field(
        default=None,
        metadata=row(
            "RESTO_ALLOWED_TYPES",
            "Media types that are accepted, as the client says; others are answered with 415.",
            optional_words,
            read=read_list,
            default="all",
        ),
    )
    allowed_extensions: frozenset[str] | None = field(
        default=None,
        metadata=row(
            "RESTO_ALLOWED_EXTENSIONS",
            "Extensions that are accepted; others are answered with 415.",
            optional_words,
            read=read_list,
            default="all",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.handoff == "reference") != bool(self.fields):
            raise ConfigError("fields", 'names the file fields of handoff "reference", and goes with it alone')
