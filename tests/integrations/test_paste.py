"""The PasteDeploy filter: an ini section's texts become settings and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resto_wsgi import ConfigError
from resto_wsgi.integrations.paste import make_filter


def bare(environ: Any, start_response: Any) -> list[bytes]:
    start_response("204 No Content", [])
    return []


def test_a_section_gives_settings_options_and_limits(tmp_path: Path) -> None:
    """Each in its own type."""
    section = {
        "media_root": str(tmp_path),
        "RESTO_TIMEOUT": "5",
        "handoff": "reference",
        "fields": "photo scan",
        "max_files": "3",
        "max_seconds": "2.5",
    }
    app = make_filter(bare, {"here": "/"}, **section)
    assert (app.replicator.settings.timeout, app.settings.max_files, app.settings.max_seconds) == (5.0, 3, 2.5)
    assert (app.settings.handoff, app.settings.fields) == ("reference", ("photo", "scan"))
    app.replicator.close()


@pytest.mark.parametrize("wrong", [{"max_files": "many"}, {"handof": "original"}, {"handoff": "copy"}])
def test_what_a_section_cannot_say_is_an_error_at_start(tmp_path: Path, wrong: dict[str, str]) -> None:
    """Misspelt, ill-typed, or no such value."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_filter(bare, {}, media_root=str(tmp_path), **wrong)
