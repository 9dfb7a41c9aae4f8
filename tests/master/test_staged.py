"""A small file may wait in memory, and is whole on the disk, and durable, once anybody can find it there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.hashing import START
from resto_wsgi.master.staged import KEPT
from resto_wsgi.master.staging import Staging


@pytest.fixture(params=[False, True], ids=["fsync=False", "fsync=True"])
def staging(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Staging]:
    staging = Staging(str(tmp_path / "staging"), fsync=request.param)
    staging.stage().discard()  # opens the room
    yield staging
    staging.close()
    assert os.listdir(staging.path) == []


def files(staging: Staging) -> list[str]:
    return [str(path) for path in Path(staging.path).glob("*/*")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_small_file_waits_in_memory_until_its_path_is_asked_for(staging: Staging) -> None:
    """It costs no file before, and is sealed and discarded there as on the disk."""
    staged = staging.stage(10)
    staged.write(b"01234")
    staged.write(memoryview(b"56789"))
    staged.seal()
    staged.seal()
    assert (staged.held, staged.size, files(staging)) == (b"0123456789", 10, [])
    assert staged.sha256 == hashlib.sha256(b"0123456789").hexdigest()
    before = descriptors()
    path = staged.path
    assert files(staging) == [path] == [staged.path]
    assert (staged.held, Path(staged.path).read_bytes(), descriptors()) == (None, b"0123456789", before)
    with staged.open() as file:
        assert file.read() == b"0123456789"
    staged.discard()
    staged.discard()
    assert files(staging) == []


def test_what_grows_over_the_limit_goes_on_on_the_disk(staging: Staging) -> None:
    """The bytes and their digest are the same, whatever of them was in memory; and so above START."""
    pieces = [b"x" * 10, b"", b"y", bytearray(b"z" * 70_000), b"w" * (START + 70_000), b"v" * 70_000]
    staged = staging.stage(10)
    held = []
    for piece in pieces:
        staged.write(piece)
        held.append(staged.held is not None)
    staged.seal()
    assert held == [True, True, False, False, False, False]
    content = b"".join(pieces)
    assert Path(staged.path).read_bytes() == content
    assert (staged.size, staged.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    staged.discard()


def test_an_empty_file_is_one(staging: Staging) -> None:
    """It has no byte in memory and none on the disk, and a path all the same."""
    staged = staging.stage(10)
    staged.seal()
    assert (staged.held, os.path.getsize(staged.path)) == (b"", 0)
    staged.discard()


def test_one_that_is_discarded_in_memory_never_was_on_the_disk(staging: Staging) -> None:
    """A refused upload of small files costs the disk nothing."""
    staged = staging.stage(10)
    staged.write(b"x")
    staged.discard()
    assert (staged.held, staged.path, files(staging)) == (None, "", [])


def test_the_path_is_told_when_the_file_is_durable(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives it a name from there gives it to what survives a power cut."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    staged = staging.stage(10)
    staged.write(b"x")
    staged.seal()
    assert synced == []
    assert staged.path and synced == ([1] if staging._fsync else [])
    staged.discard()


@pytest.mark.parametrize("fails", ["open", "write", "fsync"])
def test_a_disk_that_refuses_what_was_in_memory_leaves_nothing_and_may_be_asked_again(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The bytes stay in memory: an application that only reads its request never hears of it."""
    if fails == "fsync" and not staging._fsync:
        staging._fsync = True
    staged = staging.stage(10)
    staged.write(b"0123456789")
    staged.seal()
    before = descriptors()

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        for ask in (lambda: staged.path, staged.open):
            with pytest.raises(MediaRootError, match="stage 'an upload'") as caught:
                ask()
            assert caught.value.full
    assert (staged.held, files(staging), descriptors()) == (b"0123456789", [], before)
    assert Path(staged.path).read_bytes() == b"0123456789"
    staged.discard()


def test_an_interruption_while_it_is_written_leaves_nothing(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come at any moment."""
    staged = staging.stage(10)
    staged.write(b"x")

    def interrupt(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "write", interrupt)
        staged.spill()
    assert (staged.held, files(staging)) == (b"x", [])
    staged.discard()


def test_threads_that_ask_for_the_path_at_once_get_the_same(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written once, and nobody is told of a part of it."""
    together, real, found = threading.Barrier(4), os.write, []

    def slow(fd: int, data: bytes) -> int:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.05)  # whoever else would write comes here meanwhile
        return real(fd, data)

    def ask() -> None:
        path = staged.path
        found.append((path, os.path.getsize(path)))

    staged = staging.stage(10)
    staged.write(b"0123456789")
    staged.seal()
    monkeypatch.setattr(os, "write", slow)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [(staged.path, 10)] * 3 and files(staging) == [staged.path]
    staged.discard()


def test_one_is_not_discarded_while_another_thread_writes_it(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor would be closed under the writer, and its number could be that of another file by then."""
    writing, real, found = threading.Event(), os.write, []

    def slow(fd: int, data: bytes) -> int:
        writing.set()
        discarding.join(0.1)
        return real(fd, data)

    staged = staging.stage(10)
    staged.write(b"0123456789")
    staged.seal()
    monkeypatch.setattr(os, "write", slow)
    discarding = threading.Thread(target=lambda: (writing.wait(10), staged.discard()))
    discarding.start()
    found.append(staged.path)
    discarding.join(10)
    assert len(found) == 1 and (staged.held, files(staging)) == (None, [])


def test_staging_that_was_removed_is_made_again_when_it_is_needed(staging: Staging) -> None:
    """What waits in memory outlives the folder."""
    staged = staging.stage(10)
    staged.write(b"x")
    for path in Path(staging.path).iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    os.rmdir(staging.path)
    assert Path(staged.path).read_bytes() == b"x"
    staged.discard()


def test_one_may_be_discarded_by_a_signal_handler_amid_its_writing(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in the thread that writes, which would wait for itself."""
    staged, real, ended = staging.stage(10), os.write, []
    staged.write(b"x")

    def interrupted(fd: int, data: bytes) -> int:
        staged.discard()
        return real(fd, data)

    def ask() -> None:
        with contextlib.suppress(MediaRootError):
            ended.append(staged.path)
        ended.append("")

    monkeypatch.setattr(os, "write", interrupted)
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(5)
    assert ended == [""] and files(staging) == []


def test_a_staged_file_that_is_forgotten_is_removed_with_what_it_replaced(staging: Staging) -> None:
    """An interruption may come before the block that discards it; nobody could put the old version back then."""
    before = descriptors()
    staged, other = staging.stage(), staging.stage()
    staged.keeps = True
    Path(f"{staged.path}{KEPT}").write_bytes(b"old")
    staged.write(b"x")
    del staged
    assert (files(staging), descriptors()) == ([other.path], before + 1)
    other.discard()


def test_a_forked_process_that_forgets_a_staged_file_leaves_it_to_its_parent(staging: Staging) -> None:
    """The child has copies of all objects, and lets go of them where it ends as any program does."""
    staged = staging.stage()
    staged.keeps = True
    kept = Path(f"{staged.path}{KEPT}")
    kept.write_bytes(b"old")
    child = os.fork()
    if not child:
        try:
            del staged
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert Path(staged.path).exists() and kept.exists()
    staged.discard()
    kept.unlink()


@pytest.mark.parametrize("refused", [KeyboardInterrupt, OSError(errno.EIO, "Input/output error")])
def test_a_file_whose_making_ends_early_is_not_left(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    """Neither the file nor its descriptor, though nobody has been told of them."""
    before, real = descriptors(), os.open

    def made(*arguments: Any) -> int:
        os.close(real(*arguments))
        raise refused

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, MediaRootError)):
        patch.setattr(os, "open", made)
        staging.stage()
    assert (files(staging), descriptors()) == ([], before)


def test_one_without_a_digest_is_the_same_but_for_that(staging: Staging) -> None:
    """Who has no use for it need not pay for it."""
    staged = staging.stage(digest=False)
    for block in (b"ab", bytearray(b"cd")):
        staged.write(block)
    staged.seal()
    assert (staged.size, Path(staged.path).read_bytes()) == (4, b"abcd")
    with pytest.raises(ValueError, match="nobody asked for the digest"):
        _ = staged.sha256
    staged.discard()


def test_its_descriptor_can_be_had_until_it_is_sealed(staging: Staging) -> None:
    """To note what is known of the file beside its bytes; what is in memory goes to the disk for that."""
    staged = staging.stage(10)
    staged.write(b"x")
    os.utime(staged.fileno(), ns=(1, 1))
    staged.seal()
    assert (os.stat(staged.path).st_mtime_ns, os.stat(staged.path).st_size) == (1, 1)
    with pytest.raises(ValueError, match="it is sealed"):
        staged.fileno()
    staged.discard()


def test_one_is_moved_with_all_that_is_known_of_it(staging: Staging, tmp_path: Path) -> None:
    """Bytes, times, mode and attributes; nothing is left in the old place, and it can be discarded in the new one."""
    content = os.urandom(3 * START + 1)
    elsewhere = Staging(str(tmp_path / "elsewhere"), fsync=staging._fsync)
    staged = staging.stage()
    staged.write(content)
    os.setxattr(staged.fileno(), "user.resto.generation", b"7")
    os.utime(staged.fileno(), ns=(1, 2))
    os.fchmod(staged.fileno(), 0o640)
    staged.seal()
    staged.move(elsewhere.create)
    (path,) = files(elsewhere)
    status = os.stat(path)
    assert (files(staging), staged.path, status.st_mtime_ns, status.st_mode & 0o777) == ([], path, 2, 0o640)
    assert (Path(path).read_bytes(), os.getxattr(path, "user.resto.generation")) == (content, b"7")
    assert staged.sha256 == hashlib.sha256(content).hexdigest()
    staged.discard()
    assert files(elsewhere) == []
    elsewhere.close()


@pytest.mark.parametrize("fails", ["open", "write", "fsync"])
def test_a_move_that_the_disk_refuses_leaves_it_where_it_is(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """And nothing in the new place; it can be moved later."""
    staging._fsync = True
    elsewhere = Staging(str(tmp_path / "elsewhere"), fsync=True)
    elsewhere.stage().discard()  # opens the room
    staged = staging.stage()
    staged.write(b"x")
    staged.seal()
    before, real = descriptors(), getattr(os, fails)

    def full(path: Any, *arguments: Any, **more: Any) -> Any:
        if fails == "open" and "elsewhere" not in str(path):
            return real(path, *arguments, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        with pytest.raises((OSError, MediaRootError)):
            staged.move(elsewhere.create)
    assert (files(elsewhere), files(staging), descriptors()) == ([], [staged.path], before)
    staged.move(elsewhere.create)
    assert Path(staged.path).read_bytes() == b"x"
    staged.discard()
    elsewhere.close()


def test_one_that_was_given_away_is_not_discarded(staging: Staging, tmp_path: Path) -> None:
    """It has a name now, and is somebody else's."""
    staged = staging.stage()
    staged.seal()
    os.rename(staged.path, tmp_path / "name")
    staged.give_away()
    Path(staged.path).touch()
    staged.discard()
    assert (tmp_path / "name").exists() and files(staging) == [staged.path]
    os.unlink(staged.path)
