"""Which media root it is, and who may enter its own folder: with real processes that start together or are killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.media_root import MediaRoot


def command(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script in an interpreter of its own."""
    return [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]


def own(root: Path) -> set[str]:
    """All files in .resto."""
    return {str(path.relative_to(root / ".resto")) for path in (root / ".resto").rglob("*") if path.is_file()}


def test_an_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    """A second start reads it, whether a line end was added or not; only its owner may; another root has another."""
    identity = MediaRoot(str(tmp_path / "a")).identity
    path = tmp_path / "a/.resto/id"
    assert own(tmp_path / "a") == {"id"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"{identity}\n" and len(identity) == 32
    path.write_text(identity)
    assert MediaRoot(str(tmp_path / "a")).identity == identity
    assert MediaRoot(str(tmp_path / "b")).identity != identity


@pytest.mark.parametrize("fsync", [True, False])
def test_the_bytes_of_an_identity_are_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    """Else a power cut could leave an empty one, which nobody can use, whatever the setting of fsync."""
    calls = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return real(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(os, "link", noted("link", os.link))
    MediaRoot(str(tmp_path), fsync=fsync)
    assert calls == ["fsync", "link", *(["fsync", "fsync"] if fsync else [])]


def test_who_comes_second_at_the_first_start_takes_the_identity_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link decides, at the last moment."""
    first: list[MediaRoot] = []
    link = os.link

    def late(source: str, target: str) -> None:
        if not first:
            first.append(None)  # type: ignore[arg-type]
            first[0] = MediaRoot(str(tmp_path))
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    second = MediaRoot(str(tmp_path))
    assert second.identity == first[0].identity
    assert own(tmp_path) == {"id"}


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    """Eight of them, at the first start of all."""
    script = """
        import sys
        from resto_wsgi.master.media_root import MediaRoot
        print("ready", flush=True)
        for root in sys.stdin:
            print(MediaRoot(root.strip()).identity, flush=True)
    """
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    starters = [subprocess.Popen(command(script), **pipes) for _ in range(8)]
    assert [starter.stdout.readline() for starter in starters] == ["ready\n"] * 8
    roots = [tmp_path / str(number) for number in range(20)]
    for root in roots:
        for starter in starters:
            starter.stdin.write(f"{root}\n")
            starter.stdin.flush()
        assert len({starter.stdout.readline() for starter in starters}) == 1
    for starter in starters:
        starter.communicate(timeout=10)
    assert all(own(root) == {"id"} for root in roots)


def test_kill_9_at_a_first_start_leaves_an_identity_or_none(tmp_path: Path) -> None:
    """The next start finds it whole, or makes it, and nothing is left beside it."""
    script = """
        import json, os, re, signal, sys
        from resto_wsgi.master.media_root import MediaRoot

        def die_before(step):
            left = [step]
            def counted(real):
                def call(*args, **keywords):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **keywords)
                return call
            for function in ("open", "write", "fsync", "link", "unlink", "mkdir", "chmod", "rmdir"):
                setattr(os, function, counted(getattr(os, function)))

        found, step, status = [], 0, 1
        while status:
            step += 1
            root = f"{sys.argv[1]}/{step}"
            child = os.fork()
            if not child:
                die_before(step)
                MediaRoot(root)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            assert status in (0, signal.SIGKILL), status
            try:
                before = open(f"{root}/.resto/id").read().strip()
            except FileNotFoundError:
                before = None
            media_root = MediaRoot(root)
            media_root.sweep()
            left = [file for _, _, files in os.walk(root) for file in files]
            found.append([before, media_root.identity, left])
        print(json.dumps(found))
    """
    done = subprocess.run(command(script, tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 12
    made = [before is not None for before, *_ in found]
    assert made == sorted(made) and not made[0] and made[-1] and all(made[-2:-1]) is not None
    for before, identity, left in found:
        assert len(identity) == 32 and before in (None, identity)
        assert left == ["id"]


@pytest.mark.parametrize("content", [b"", b"\n", b"0" * 31, b"0" * 33, b"G" * 32, b"0" * 32 + b"\n\n", b"\xff" * 200])
def test_what_is_no_identity_is_an_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    """It is never replaced by a new one silently: what is owed was recorded for the old one."""
    MediaRoot(str(tmp_path))
    path = tmp_path / ".resto/id"
    path.write_bytes(content)
    with pytest.raises(
        MediaRootError, match=r"cannot use '.resto/id' .*restore it from a backup, or remove it"
    ) as caught:
        MediaRoot(str(tmp_path))
    assert caught.value.errno == errno.EINVAL
    assert path.read_bytes() == content
    path.unlink()
    MediaRoot(str(tmp_path)).check_here()


def test_an_identity_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A folder in its place, for instance."""
    (tmp_path / ".resto/id").mkdir(parents=True)
    with pytest.raises(MediaRootError, match=r"cannot read '.resto/id' in MEDIA_ROOT: Is a directory"):
        MediaRoot(str(tmp_path))


def test_an_identity_that_somebody_removes_at_once_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes on with one that no other process can read."""
    monkeypatch.setattr(os, "link", lambda source, target: None)
    with pytest.raises(MediaRootError, match=r"cannot make '.resto/id'.*removes it"):
        MediaRoot(str(tmp_path))


def test_a_disk_that_is_not_there_any_more_is_told(tmp_path: Path) -> None:
    """Unmounted, another one in its place, or another kind of thing: and all is well when it is back."""
    root = tmp_path / "media"
    media_root = MediaRoot(str(root))
    media_root.check_here()
    root.rename(tmp_path / "aside")
    for leftover, problem in ((None, "it is gone"), ("folder", "it is gone"), ("other", "of another media root")):
        if leftover == "folder":
            root.mkdir()
        elif leftover == "other":
            MediaRoot(str(root))
        with pytest.raises(MediaRootError, match=rf"cannot find '.resto/id' .*{problem}; see that the right disk"):
            media_root.check_here()
    shutil.rmtree(root)
    root.touch()
    with pytest.raises(MediaRootError, match="Not a directory"):
        media_root.check_here()
    root.unlink()
    (tmp_path / "aside").rename(root)
    media_root.check_here()


def test_another_identity_under_the_same_path_is_seen_at_once(tmp_path: Path) -> None:
    """A file of the same size and times, and the same file with another content; and ours again, in a new file."""
    media_root = MediaRoot(str(tmp_path))
    media_root.check_here()
    path, fresh = tmp_path / ".resto/id", tmp_path / ".resto/fresh"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    for content, ours in ((b"0" * 32 + b"\n", False), (path.read_bytes(), True)):
        fresh.write_bytes(content)
        os.utime(fresh, ns=times)
        fresh.rename(path)
        with contextlib.nullcontext() if ours else pytest.raises(MediaRootError):
            media_root.check_here()
    path.write_bytes(b"1" * 32 + b"\n")
    os.utime(path)
    with pytest.raises(MediaRootError, match="of another media root"):
        media_root.check_here()


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o770, 0o701, 0o2777])
def test_others_are_shut_out_of_a_folder_that_was_left_open_to_them(tmp_path: Path, mode: int) -> None:
    """Whatever a deployment script made of it; what concerns the owner alone stays."""
    (tmp_path / ".resto").mkdir()
    (tmp_path / ".resto").chmod(mode)
    MediaRoot(str(tmp_path))
    assert stat.S_IMODE((tmp_path / ".resto").stat().st_mode) == mode & ~0o077


def test_a_folder_that_cannot_be_shut_is_an_error_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to another user, or the file system ignores the call; one that is shut already is not touched."""

    def refuse(path: str, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    MediaRoot(str(tmp_path))
    for fault in (refuse, lambda path, mode: None):
        monkeypatch.setattr(os, "chmod", fault)
        MediaRoot(str(tmp_path))
        monkeypatch.undo()
        (tmp_path / ".resto").chmod(0o755)
        monkeypatch.setattr(os, "chmod", fault)
        with pytest.raises(MediaRootError, match=r"cannot use '.resto'.*chmod 700 .*/.resto as its owner"):
            MediaRoot(str(tmp_path))
        monkeypatch.undo()
        (tmp_path / ".resto").chmod(0o700)
