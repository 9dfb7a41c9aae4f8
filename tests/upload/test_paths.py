"""A request is under a path if any framework would take it for one that is."""

from __future__ import annotations

import pytest

from resto_wsgi.upload.paths import is_below


def below(path: str, *paths: str, script: str = "") -> bool:
    environ = {"SCRIPT_NAME": script, "PATH_INFO": path.encode("utf-8", "surrogateescape").decode("latin-1")}
    return is_below(environ, paths)


@pytest.mark.parametrize(
    "path", ["/photos", "/photos/", "/photos/1", "/photos//", "/photos/./", "//photos", "/./photos/1"]
)
def test_a_path_has_itself_and_what_is_below_it(path: str) -> None:
    """In whole segments, however it is written."""
    assert below(path, "/photos")
    assert below(path, "/nothing", "/photos")


@pytest.mark.parametrize(
    "path", ["", "/", "/photo", "/photoshop", "/photos.php", "/a/photos", "/photos%2f1", "/Photos"]
)
def test_what_only_looks_alike_is_not_below(path: str) -> None:
    """Another segment is another path."""
    assert not below(path, "/photos")


@pytest.mark.parametrize(
    "path", ["/x/../photos", "/../photos", "/photos/../photos", "/\udcffphotos", "/pho\udcfftos", "/x/..//photos/1"]
)
def test_what_some_framework_reads_as_the_path_is_below(path: str) -> None:
    """Dot segments, and bytes that are no UTF-8."""
    assert below(path, "/photos")


def test_the_application_may_be_mounted() -> None:
    """The path is that of the URL."""
    assert below("/photos", "/site/photos", script="/site")
    assert not below("/photos", "/photos", script="/site")


def test_paths_are_text_and_may_end_with_a_slash() -> None:
    """Then the folder itself, without one, is not meant; "/" is everything."""
    assert below("/größe/1", "/größe")
    assert below("/photos/1", "/photos/") and below("/photos/", "/photos/")
    assert not below("/photos", "/photos/")
    assert below("/anything", "/") and below("/", "/")
