"""The page that takes the place of an answer says what became of the files, and shows nothing of the server."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from webob import Request

from resto_wsgi.errors import (
    ConfigError,
    MediaRootError,
    NameRejected,
    OutboxError,
    ReplicationError,
    RestoError,
    UploadRejected,
)
from resto_wsgi.upload.error_page import error_page


def answer(error: RestoError, accept: str = "application/json", **keywords: Any) -> Any:
    return Request.blank("/", headers={"Accept": accept}).get_response(error_page(error, **keywords))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UploadRejected("No."), 400),
        (NameRejected("..", "has a part that is . or .."), 400),
        (MediaRootError("save", "a/b.jpg", PermissionError(13, "Permission denied")), 500),
        (MediaRootError("save", "a/b.jpg", OSError(28, "No space left on device")), 507),
        (OutboxError("/srv/outbox", "is full", "free some", full=True), 507),
        (OutboxError("/srv/outbox", "is damaged", "replace it"), 500),
        (ReplicationError("save", "a/b.jpg", {}, 0, 2), 503),
        (ConfigError("mode", "is odd"), 500),
    ],
)
def test_each_error_has_its_status_and_shows_nothing_of_the_server(error: RestoError, status: int) -> None:
    """No path, name or reason of the system; what the files are is said of failures."""
    response = answer(error)
    assert response.status_code == status
    message = json.loads(response.body)["message"]
    for hidden in ("Permission", "a/b.jpg", "/srv", "device", "odd"):
        assert hidden not in message
    assert status < 500 or "None of the files of this request was kept." in message
    assert (response.headers.get("Retry-After") is not None) == (status == 503)


def test_files_that_may_stand_are_not_said_to_be_gone() -> None:
    """Where a withdrawal failed."""
    message = answer(ReplicationError("save", "a", {}, 0, 1), withdrawn=False).text
    assert "may have been kept" in message and "None of" not in message


@pytest.mark.parametrize("status", [300, 303, 400, 418, 426, 451, 499, 500, 511, 599])
def test_a_refusal_has_the_status_that_it_says(status: int) -> None:
    """Those too for which WebOb has no class."""
    response = answer(UploadRejected("Because.", status, [("X-Why", "because")]))
    assert (response.status_code, response.headers["X-Why"]) == (status, "because")
    assert status < 400 or "Because." in response.text


@pytest.mark.parametrize("status", [0, 200, 299, 600])
def test_a_status_that_refuses_nothing_is_an_error_where_it_is_made(status: int) -> None:
    """A success would publish nothing and say so to nobody."""
    with pytest.raises(ValueError, match="300 to 599"):
        UploadRejected("Because.", status)


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/json"])
def test_the_page_is_in_the_form_that_was_asked_for(kind: str) -> None:
    """As WebOb's errors are."""
    response = answer(UploadRejected("Because."), kind)
    assert response.content_type == kind and "Because." in response.text


@pytest.mark.parametrize("show", [True, False])
def test_what_is_not_the_clients_fault_is_logged(show: bool, caplog: pytest.LogCaptureFixture) -> None:
    """With a traceback if that is wanted; a refusal is not."""
    answer(UploadRejected("No."), show_traceback=show)
    assert not caplog.records
    answer(ReplicationError("save", "a", {}, 0, 1), show_traceback=show)
    (record,) = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (logging.ERROR, show)
