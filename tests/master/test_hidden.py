"""The folder that is ours is made for its owner alone, and only where there is something to put it in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.hidden import make_hidden, make_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_its_owner_alone_and_may_be_there(tmp_path: Path) -> None:
    """Whatever the umask lets through."""
    before = os.umask(0)
    try:
        for path in (".resto", ".resto/staging", ".resto"):
            make_hidden(str(tmp_path / path))
    finally:
        os.umask(before)
    assert mode(tmp_path / ".resto") == mode(tmp_path / ".resto/staging") == 0o700


def test_a_root_that_is_away_is_not_filled(tmp_path: Path) -> None:
    """What is seen in the place of an unmounted disk stays as it is."""
    for path in ("away/.resto", ".resto/staging"):
        with pytest.raises(FileNotFoundError):
            make_hidden(str(tmp_path / path))
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_left_open_is_shut(tmp_path: Path) -> None:
    """To group and others; what its owner may do stays."""
    for given, kept in ((0o755, 0o700), (0o2770, 0o2700), (0o500, 0o500)):
        own = tmp_path / f"{given:o}"
        own.mkdir()
        own.chmod(given)
        make_private(str(own))
        assert mode(own) == kept


def test_one_that_cannot_be_shut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that takes a chmod and does nothing, or where it belongs to somebody else."""
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "chmod", lambda path, mode: None)
    with pytest.raises(MediaRootError, match="others may enter it and it cannot be changed from here; run chmod 700"):
        make_private(str(tmp_path))
    with pytest.raises(MediaRootError, match="cannot look at"):
        make_private(str(tmp_path / "missing"))
