"""What is known of a file beside its bytes: its digest, which counts for that very file alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from node_requests import ask, digest_of

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.files import marks

TEN = b"0123456789"


def test_a_digest_of_another_version_is_not_given(app: MediaServer, root: Path) -> None:
    """Neither of a file that was written in place, nor of a copy with its attributes."""
    ask(app, "PUT", "/x", TEN, HTTP_REPR_DIGEST=digest_of(TEN))
    (root / "copy").write_bytes(b"another")
    for name in os.listxattr(root / "x"):
        os.setxattr(root / "copy", name, os.getxattr(root / "x", name))
    os.utime(root / "copy", ns=(0, os.stat(root / "x").st_mtime_ns))
    assert "Repr-Digest" not in ask(app, "GET", "/copy").headers
    (root / "x").write_bytes(b"9876543210")
    assert "Repr-Digest" not in ask(app, "GET", "/x").headers
    wanted = {"HTTP_WANT_REPR_DIGEST": "sha-256=1"}
    assert ask(app, "GET", "/x", **wanted).headers["Repr-Digest"] == digest_of(b"9876543210")


def test_garbage_in_the_attribute_is_no_digest(app: MediaServer, root: Path) -> None:
    """Somebody else may have set it."""
    (root / "x").write_bytes(TEN)
    for value in (b"", b"\xff", b"x y z w", b"10 0 0 " + b"z" * 64):
        os.setxattr(root / "x", marks.DIGEST, value)
        assert "Repr-Digest" not in ask(app, "GET", "/x").headers


def test_strangers_cannot_have_everything_hashed_at_once(app: MediaServer, root: Path) -> None:
    """Two at a time; whoever asks for more gets the file without its digest, as the RFC permits."""
    (root / "x").write_bytes(TEN)
    with marks.HASHING, marks.HASHING:
        assert "Repr-Digest" not in ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1").headers
    assert "Repr-Digest" in ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1").headers


def test_a_file_that_changes_while_it_is_hashed_has_no_digest(
    app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be that of neither version."""
    (root / "x").write_bytes(TEN)
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        os.utime(root / "x", (1, 1))
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert "Repr-Digest" not in ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1").headers
    assert marks.DIGEST not in os.listxattr(root / "x")
    assert format_digest(hashlib.sha256(TEN).digest()) == digest_of(TEN)
