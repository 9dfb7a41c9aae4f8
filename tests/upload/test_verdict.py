"""An answer publishes or withdraws the uploads of its request, as the site has said."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from webob import Request

from resto_wsgi import OutboxError, ReplicationError, Replicator
from resto_wsgi.upload.form import FilePart, Form
from resto_wsgi.upload.uploads import Upload, Uploads
from resto_wsgi.upload.verdict import Verdict

NAME = "in/a.jpg"


class Case:
    """A request with one upload that waits for its verdict."""

    def __init__(self, replicator: Replicator, publish: str) -> None:
        self.replicator = replicator
        staged = replicator.stage()
        staged.write(b"cat")
        staged.seal()
        self.path = Path(staged.path)
        upload = Upload(FilePart("photo", "a.jpg", "image/jpeg", "", staged), replicator)
        upload.name = NAME
        self.uploads = Uploads([upload])
        self.body = io.BytesIO()
        self.verdict = Verdict(self.uploads, Form(pieces=[staged]), self.body, publish, show_traceback=False)

    @property
    def stored(self) -> bool:
        return self.replicator.exists(NAME)


@pytest.fixture
def replicator(tmp_path: Path) -> Iterator[Replicator]:
    with Replicator(media_root=tmp_path, background=False, fsync=False) as replicator:
        yield replicator


@pytest.mark.parametrize(
    ("publish", "code", "stored"),
    [
        *(("on_success", 200, True), ("on_success", 303, True), ("on_success", 199, False), ("on_success", 400, False)),
        *(("always", 500, True), ("manual", 200, False)),
    ],
)
def test_an_answer_decides_what_is_published(replicator: Replicator, publish: str, code: int, stored: bool) -> None:
    """When it is decided, and still when the request has ended; nothing staged stays."""
    case = Case(replicator, publish)
    assert case.verdict.decide(code) is None
    assert case.stored is stored
    case.verdict.finish(failed=False)
    assert case.stored is stored
    assert case.body.closed and not case.path.exists()


@pytest.mark.parametrize(("publish", "stored"), [("on_success", False), ("always", False), ("manual", True)])
def test_a_request_that_failed_keeps_what_the_application_asked_for_alone(
    replicator: Replicator, publish: str, stored: bool
) -> None:
    """An exception withdraws what was published early, unless publishing is the application's own matter."""
    case = Case(replicator, publish)
    case.uploads.publish()
    case.verdict.finish(failed=True)
    assert case.stored is stored


@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_failure_is_answered_in_the_place_of_the_application(
    replicator: Replicator, monkeypatch: pytest.MonkeyPatch, withdrawn: bool
) -> None:
    """With 503; what is said of the files is what is true of them."""

    def fail(*_: Any, **__: Any) -> Any:
        raise ReplicationError("save", NAME, {}, 0, 1)

    def stuck(*_: Any) -> None:
        raise OutboxError("/o", "is away", "bring it back")

    case = Case(replicator, "on_success")
    monkeypatch.setattr(case.uploads, "publish", fail)
    if not withdrawn:
        monkeypatch.setattr(case.uploads, "withdraw", stuck)
    page = case.verdict.decide(200)
    assert page is not None
    response = Request.blank("/").get_response(page)
    assert response.status_code == 503
    assert ("None of the files" in response.text) is withdrawn
