"""The uploads of one request: published once, taken back, dropped, and out of reach when the request has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi import Replicator, RestoError
from resto_wsgi.upload.form import FilePart
from resto_wsgi.upload.uploads import KEY, Upload, Uploads, uploads_of

NAMES = ["in/a.jpg", "in/b.jpg"]


@pytest.fixture
def replicator(tmp_path: Path) -> Iterator[Replicator]:
    with Replicator(media_root=tmp_path, background=False, fsync=False) as replicator:
        yield replicator


@pytest.fixture
def uploads(replicator: Replicator) -> Uploads:
    return Uploads([upload(replicator, name) for name in NAMES])


def upload(replicator: Replicator, name: str) -> Upload:
    staged = replicator.stage(1000)
    staged.write(name.encode())
    staged.seal()
    made = Upload(FilePart("photo", name[-5:], "image/jpeg", "image/jpeg", staged), replicator)
    made.name = name
    return made


def there(replicator: Replicator) -> list[str]:
    return [name for name in NAMES if replicator.exists(name)]


def test_an_upload_says_what_the_client_said_and_what_is_ours(replicator: Replicator, uploads: Uploads) -> None:
    """Field, filename and type are the client's; its bytes can be read before and after it is published."""
    first = uploads[0]
    assert (first.field, first.filename, first.content_type, first.size) == ("photo", "a.jpg", "image/jpeg", 8)
    assert (first.url, "in/a.jpg" in repr(first)) == (replicator.url("in/a.jpg"), True)
    for _ in range(2):
        assert Path(first.path).read_bytes() == b"in/a.jpg"
        with first.open() as file:
            assert file.read() == b"in/a.jpg"
        uploads.publish()


def test_uploads_are_found_by_place_and_by_name(uploads: Uploads) -> None:
    """A name of another request is a KeyError, and so is any other text."""
    assert uploads["in/b.jpg"] is uploads[1] is uploads[-1] is uploads[1:][0]
    assert list(uploads) == [uploads[0], uploads[1]] and len(uploads) == 2
    for text in ("", "in/c.jpg", "../in/a.jpg", "0"):
        with pytest.raises(KeyError):
            uploads[text]


def test_publishing_is_done_once_and_can_be_taken_back(replicator: Replicator, uploads: Uploads) -> None:
    """All of them; and again after that."""
    uploads.publish()
    uploads.publish()
    assert there(replicator) == NAMES and uploads[0].stored is not None
    uploads.withdraw()
    assert there(replicator) == [] and uploads[0].stored is None
    uploads.publish()
    assert there(replicator) == NAMES


def test_one_that_cannot_be_published_takes_the_others_of_the_call_back(replicator: Replicator) -> None:
    """A name that is taken: what was published before this call stays."""
    replicator.save("in/b.jpg", b"another")
    uploads = Uploads([upload(replicator, name) for name in NAMES])
    with pytest.raises(FileExistsError):
        uploads.publish()
    assert there(replicator) == ["in/b.jpg"] and uploads[0].stored is None


@pytest.mark.parametrize("published", [False, True])
def test_what_is_discarded_is_never_published(replicator: Replicator, uploads: Uploads, published: bool) -> None:
    """One, or all; before or after it was published."""
    if published:
        uploads.publish()
    uploads[0].discard()
    uploads.publish()
    assert there(replicator) == ["in/b.jpg"]
    uploads.discard()
    uploads.publish()
    assert there(replicator) == []


@pytest.mark.parametrize("published", [False, True])
def test_after_its_release_an_upload_stands_or_is_gone(
    replicator: Replicator, uploads: Uploads, published: bool
) -> None:
    """It can be neither published nor discarded then."""
    if published:
        uploads.publish()
    uploads.release()
    assert there(replicator) == (NAMES if published else [])
    for change in (uploads.publish, uploads[0].discard, uploads.discard):
        with pytest.raises(RestoError, match="has ended"):
            change()
    assert there(replicator) == (NAMES if published else [])


def test_the_uploads_of_any_request_can_be_asked_for(uploads: Uploads) -> None:
    """Of one that was not caught there are none."""
    environ: dict[str, Any] = {KEY: uploads}
    assert uploads_of(environ) is uploads
    assert list(uploads_of({})) == []
    with pytest.raises(KeyError):
        uploads_of({})["in/a.jpg"]
