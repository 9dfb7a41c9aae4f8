"""What is in a media root, for who reads it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import descriptors, publish, replace, run

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.media_root import MediaRoot


@pytest.fixture
def media_root(tmp_path: Path) -> Iterator[MediaRoot]:
    """An empty media root."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=False)
    yield media_root
    media_root.close()


def test_open_tells_size_and_mtime_of_the_very_file(media_root: MediaRoot) -> None:
    """They are those of the open descriptor, whatever has the name by now."""
    publish(media_root, "cat", b"old")
    os.utime(media_root.path("cat"), (1_000_000_000, 1_000_000_000))
    master = media_root.open("cat")
    replace(media_root, "cat", b"newer")
    with master.file:
        assert (master.size, master.mtime, master.file.read()) == (3, 1_000_000_000, b"old")


def test_what_is_no_file_is_not_found(media_root: MediaRoot) -> None:
    """A missing name and a folder look the same to a reader, and leave no descriptor."""
    os.mkdir(media_root.path("folder"))
    before = descriptors()
    for name in ("missing", "folder"):
        with pytest.raises(FileNotFoundError):
            media_root.open(name)
        with pytest.raises(FileNotFoundError):
            media_root.size(name)
        assert not media_root.exists(name)
    assert descriptors() <= before


def test_a_file_that_cannot_be_opened_is_an_error_of_the_media_root(media_root: MediaRoot) -> None:
    """What the disk cannot even look up is neither found nor missing."""
    with pytest.raises(MediaRootError, match="cannot read 'xxx") as caught:
        media_root.open("x" * 300)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_what_is_no_file_is_absent_and_not_waited_for(media_root: MediaRoot) -> None:
    """A FIFO would block; it is not listed, and the folder around it is."""
    os.mkfifo(media_root.path("pipe"))
    publish(media_root, "file", b"x")
    with pytest.raises(FileNotFoundError):
        media_root.open("pipe")
    assert media_root.listdir("") == ([], ["file"])


def test_listdir_is_sorted_and_shows_nothing_hidden(media_root: MediaRoot) -> None:
    """Folders and files are told apart; a file or nothing is no folder."""
    for name in ("b", "a", "d/x", "c/x"):
        publish(media_root, name, b"")
    Path(media_root.path(".hidden")).touch()
    assert media_root.listdir("") == (["c", "d"], ["a", "b"])
    assert media_root.listdir("c") == ([], ["x"])
    with pytest.raises(FileNotFoundError):
        media_root.listdir("missing")
    with pytest.raises(NotADirectoryError):
        media_root.listdir("a")


def test_the_state_tells_one_version_from_another(media_root: MediaRoot) -> None:
    """That of the open file, and that which the name has now, with or without a change of size or time."""
    publish(media_root, "cat", b"old")
    os.utime(media_root.path("cat"), ns=(1, 1))
    master = media_root.open("cat")
    master.file.close()
    assert media_root.state("cat") == master.state
    assert master.state[2:] == (3, 1)
    replace(media_root, "cat", b"new")
    os.utime(media_root.path("cat"), ns=(1, 1))
    assert media_root.state("cat") not in (None, master.state)
    seen = media_root.state("cat")
    os.utime(media_root.path("cat"), ns=(1, 2))
    assert media_root.state("cat") not in (None, seen)


def test_a_name_is_still_what_it_was_until_it_is_changed(media_root: MediaRoot) -> None:
    """Replaced, written in place, gone, back, a folder, another file that a link leads to: each is a change."""
    path = Path(media_root.path("a/cat"))
    assert media_root.is_still("a/cat", None)
    path.parent.mkdir()
    path.write_bytes(b"cat")
    seen = media_root.state("a/cat")
    assert seen is not None and media_root.is_still("a/cat", seen) and not media_root.is_still("a/cat", None)
    path.with_name("new").write_bytes(b"cat")
    path.with_name("new").replace(path)
    assert not media_root.is_still("a/cat", seen)
    seen = media_root.state("a/cat")
    path.write_bytes(b"dogs")
    assert not media_root.is_still("a/cat", seen)
    seen = media_root.state("a/cat")
    other = path.rename(path.with_name("other"))
    assert not media_root.is_still("a/cat", seen) and media_root.is_still("a/cat", None)
    path.symlink_to(other)
    assert not media_root.is_still("a/cat", seen), "no link is followed"
    path.unlink()
    path.mkdir()
    assert not media_root.is_still("a/cat", seen) and media_root.is_still("a/cat", None)


def test_what_is_no_file_has_no_state(media_root: MediaRoot) -> None:
    """Whatever open does not find; what cannot be looked up is an error."""
    publish(media_root, "folder/file", b"x")
    os.mkfifo(media_root.path("pipe"))
    os.symlink("loop", media_root.path("loop"))
    for name in ("missing", "folder", "pipe", "loop", "loop/below", "folder/file/below"):
        assert media_root.state(name) is None
    with pytest.raises(MediaRootError, match="cannot read 'xxx"):
        media_root.state("x" * 300)


# Links


@pytest.fixture
def linked(media_root: MediaRoot, tmp_path: Path) -> MediaRoot:
    """A media root with links to what is in it, beside it, and nowhere."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    publish(media_root, "folder/file", b"x").staged.discard()
    targets = {"link": "folder", "out": "../outside", "alias": "folder/file", "passwd": "../outside/secret"}
    for name, target in {**targets, "nowhere": "x", "loop": "loop"}.items():
        os.symlink(target, media_root.path(name))
    return media_root


@pytest.mark.parametrize(
    "name", ["link/file", "out/secret", "alias", "passwd", "nowhere", "loop", "loop/x", "link/x/y"]
)
def test_a_link_is_not_followed_and_not_taken_for_a_name_that_is_missing(linked: MediaRoot, name: str) -> None:
    """What is missing is deleted elsewhere; this is an error, which names the link and says what to do about it."""
    before = descriptors()
    link = f"its folder '{name.partition('/')[0]}'" if "/" in name else "it"
    remedy = "put a file or a folder in its place, or name a linked folder in RESTO_LINKED_FOLDERS"
    for ask in (linked.open, linked.size, linked.sha256):
        with pytest.raises(MediaRootError) as caught:
            ask(name)
        problem = f"{link} is a symbolic link, which is not followed"
        assert str(caught.value) == f"cannot read '{name}' in MEDIA_ROOT: {problem}; {remedy}"
    assert (linked.exists(name), linked.state(name)) == (False, None)
    del caught
    assert descriptors() <= before


def test_a_linked_folder_is_not_listed(linked: MediaRoot) -> None:
    """Neither among others nor by its own name."""
    assert linked.listdir("") == (["folder"], [])
    assert [each.name for each in linked.entries("", "", 10)] == ["folder"]
    for ask in (lambda: linked.listdir("out"), lambda: linked.entries("link", "", 10)):
        with pytest.raises(MediaRootError, match=r"cannot list '.*' in MEDIA_ROOT: its folder '.*' is a symbolic link"):
            ask()


def test_what_belongs_to_somebody_else_is_not_shown(tmp_path: Path) -> None:
    """At the top of the root alone, and a longer name is one if it may be."""
    long = "/".join(["x" * 200] * 6)
    root = MediaRoot(str(tmp_path), longest=2048, without=frozenset({"page", "pages"}))
    for name in ("page", "pages/a", "b/page", long):
        publish(root, name, b"").staged.discard()
    assert sorted(root.names()) == ["b/page", long]
    assert [each.name for each in root.entries("", "", 10)] == ["b", "x" * 200]
    assert [each.name for each in root.entries("b", "", 10)] == ["page"]
    root.close()


def test_a_name_is_the_same_in_every_locale(tmp_path: Path) -> None:
    """Its bytes are UTF-8, and the path that is told can be opened; in a locale that knows ASCII alone as well."""
    script = """
        import json, sys
        from disks import read, replace
        from resto_wsgi.master.media_root import MediaRoot
        root, name, other = MediaRoot(sys.argv[1] + "/m\\u00e9dias"), "na\\u00efve/\\u65e5.txt", sys.argv[2]
        replace(root, f"{name}-{other}", b"x").staged.discard()
        with open(root.path(f"{name}-{other}"), "rb") as file:
            assert file.read() == read(root, f"{name}-{other}") == b"x"
        assert root.exists(f"{name}-{other}") and root.state(f"{name}-{other}")
        found = [sorted(root.names()), root.listdir(""), [each.name for each in root.entries("na\\u00efve", "", 9)]]
        print(json.dumps(found))
    """
    told = [
        run(script, tmp_path, "1"),
        run(script, tmp_path, "2", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
        run(script, tmp_path, "2"),
    ]
    assert told[0][0] == ["na\u00efve/\u65e5.txt-1"]
    assert told[1] == told[2]
    assert told[1][0] == ["na\u00efve/\u65e5.txt-1", "na\u00efve/\u65e5.txt-2"]
