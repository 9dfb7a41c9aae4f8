"""What a request may hold: each limit in one place, with its unit and its reason.

Over a limit the answer is 413, and 408 over ``max_seconds``. The modules of ``upload`` count, nothing here does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .rows import Checked, row
from .values import positive, read_number

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits(Checked):
    """The limits of the intake, counted on bytes that were really read. Raises ConfigError if one is not positive."""

    # A long video; raise it if larger ones are expected.
    max_file_size: int = field(
        default=1024**3, metadata=row("RESTO_MAX_FILE_SIZE", "Bytes of one file.", positive, read=read_number)
    )
    # Two of the largest files.
    max_total_size: int = field(
        default=2 * 1024**3, metadata=row("RESTO_MAX_TOTAL_SIZE", "Bytes of the body.", positive, read=read_number)
    )
    # What a person picks at once.
    max_files: int = field(
        default=100, metadata=row("RESTO_MAX_FILES", "Files in a request.", positive, read=read_number)
    )
    # As in Django.
    max_fields: int = field(
        default=1000, metadata=row("RESTO_MAX_FIELDS", "Text fields in a request.", positive, read=read_number)
    )
    # A long article.
    max_field_size: int = field(
        default=1024**2, metadata=row("RESTO_MAX_FIELD_SIZE", "Bytes of one text field.", positive, read=read_number)
    )
    # Kept in memory: all that is no file's content.
    max_form_size: int = field(
        default=4 * 1024**2,
        metadata=row(
            "RESTO_MAX_FORM_SIZE",
            "Bytes of text fields and headers, which are kept in memory.",
            positive,
            read=read_number,
        ),
    )
    # A filename of 255 bytes, percent-encoded, and room.
    max_header_size: int = field(
        default=4096,
        metadata=row("RESTO_MAX_HEADER_SIZE", "Bytes of one header line of a part.", positive, read=read_number),
    )
    # Browsers send two.
    max_header_count: int = field(
        default=8, metadata=row("RESTO_MAX_HEADER_COUNT", "Headers of a part.", positive, read=read_number)
    )
    # From the first byte read to the last: 1 GiB over 2.4 Mbit/s.
    max_seconds: float = field(
        default=3600.0, metadata=row("RESTO_MAX_SECONDS", "Seconds to receive the body.", positive, read=read_number)
    )
