"""What the disk refuses is told as our own error, and nothing else is touched."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.disk import disk, unlink


def test_a_refusal_says_what_was_wanted() -> None:
    """With the cause behind it, and whether the disk was full."""
    with (
        pytest.raises(MediaRootError, match="cannot save 'cat' in MEDIA_ROOT: No space left") as caught,
        disk("save", "cat"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.full and isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("expected", [FileNotFoundError, (FileNotFoundError, FileExistsError)])
def test_what_the_caller_expects_and_what_is_no_refusal_pass(expected: type[OSError]) -> None:
    """Whether it is one kind or several."""
    with pytest.raises(FileNotFoundError), disk("read", "cat", but=expected):
        raise FileNotFoundError(errno.ENOENT, "gone")
    with pytest.raises(ValueError, match="no refusal"), disk("read", "cat"):
        raise ValueError("no refusal")
    with pytest.raises(MediaRootError), disk("read", "cat", but=expected):
        raise PermissionError(errno.EACCES, "no")


def test_a_file_that_is_gone_is_removed_all_the_same(tmp_path: Path) -> None:
    """Any other failure is told."""
    path = tmp_path / "file"
    path.touch()
    unlink(str(path))
    unlink(str(path))
    assert not path.exists()
    with pytest.raises(NotADirectoryError):
        unlink(f"{__file__}/x")
