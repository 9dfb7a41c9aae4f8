"""The middleware's settings: from every source, each checked, and told by its name."""

from __future__ import annotations

from typing import Any

import pytest

from resto_wsgi.config import Settings, UploadSettings
from resto_wsgi.errors import ConfigError

GIVEN: dict[str, tuple[str, Any]] = {
    "paths": ("/photos /scans", ("/photos", "/scans")),
    "publish": ("Manual", "manual"),
    "handoff": ("reference", "reference"),
    "fields": ("photo, scan", ("photo", "scan")),
    "upload_to": ("photos/%Y", "photos/%Y"),
    "naming": ("CONTENT", "content"),
    "allowed_types": ("image/PNG image/jpeg", frozenset({"image/png", "image/jpeg"})),
    "allowed_extensions": (".JPG, jpeg", frozenset({"jpg", "jpeg"})),
    "max_file_size": ("20971520", 20971520),
    "max_files": ("3", 3),
    "max_seconds": ("2.5", 2.5),
}


def test_every_source_gives_the_same() -> None:
    """Keywords are typed; an environment, an ini file and a module of settings have text."""
    outer = {f"RESTO_{name.upper()}": text for name, (text, _) in GIVEN.items()}
    typed = Settings.from_keywords(media_root="/srv/media", **{name: value for name, (_, value) in GIVEN.items()})
    assert Settings.from_environ({"MEDIA_ROOT": "/srv/media", **outer}) == typed
    assert Settings.from_mapping({"MEDIA_ROOT": "/srv/media", **outer}) == typed
    assert Settings.from_mapping(type("settings", (), {"MEDIA_ROOT": "/srv/media", **outer})) == typed
    assert Settings.from_ini({"media_root": "/srv/media", **{name: text for name, (text, _) in GIVEN.items()}}) == typed
    assert {name: getattr(typed, name) for name in GIVEN} == {name: value for name, (_, value) in GIVEN.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("paths", "/photos"), ("paths", ["photos"]), ("paths", 7), ("publish", "never"), ("handoff", "copy")),
        *(("fields", "photo"), ("fields", ["photo"]), ("upload_to", "../%Y"), ("upload_to", 7), ("upload_to", "a//b")),
        *(("naming", "md5"), ("naming", None), ("allowed_types", "image/png"), ("allowed_extensions", [1])),
    ],
)
def test_a_value_that_is_wrong_is_an_error_that_names_it(name: str, value: Any) -> None:
    """At start, in one line."""
    with pytest.raises(ConfigError, match=f"^{name}: .*takes|^{name}: names"):
        UploadSettings(**{name: value})


@pytest.mark.parametrize("value", ["%Y/%m", "", "/", "/in/", "in", lambda field, filename, environ: field])
def test_a_folder_is_a_pattern_or_a_function(value: Any) -> None:
    """Of which the middleware makes names."""
    assert UploadSettings(upload_to=value).upload_to == value


def test_reference_names_its_fields() -> None:
    """Neither goes without the other."""
    assert UploadSettings(handoff="reference", fields=["a"]).fields == ("a",)
    with pytest.raises(ConfigError, match=r"^fields"):
        UploadSettings(handoff="reference")


def test_that_nobody_has_said_when_to_publish_can_be_told() -> None:
    """The middleware warns then."""
    assert UploadSettings().publish == ""
    assert UploadSettings(publish="on_success").publish == "on_success"
