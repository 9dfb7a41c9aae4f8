"""What a value may be, and what a text means."""

from __future__ import annotations

import pytest

from resto_wsgi.config import Settings
from resto_wsgi.errors import ConfigError


@pytest.mark.parametrize("text", ["640", "0640", "0o640", " 640 "])
def test_modes_are_read_in_octal(text: str) -> None:
    """As chmod and Django's settings write them."""
    assert Settings.from_environ({"MEDIA_ROOT": "/srv/media", "RESTO_FILE_MODE": text}).file_mode == 0o640


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("RESTO_FILE_MODE", "444"), ("RESTO_FILE_MODE", "rw"), ("RESTO_FILE_MODE", "2644"), ("RESTO_FILE_MODE", "")),
        *(("RESTO_FOLDER_MODE", "644"), ("RESTO_FOLDER_MODE", "-1"), ("RESTO_FOLDER_MODE", "999")),
    ],
)
def test_a_mode_that_would_lock_us_out_is_refused(name: str, text: str) -> None:
    """Its owner has to write files, and to enter folders."""
    with pytest.raises(ConfigError, match=name):
        Settings.from_environ({"MEDIA_ROOT": "/srv/media", name: text})
