"""Errors: the one line that each shows, the facts it keeps, and that no client writes a line of its own."""

from __future__ import annotations

import errno
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resto_wsgi import errors
from resto_wsgi.errors import (
    ConfigError,
    DeliveryError,
    MediaRootError,
    NameRejected,
    ReplicationError,
    RestoError,
    SignatureRejected,
    UploadRejected,
    counted,
    shown,
)

HOSTILE = "a\nERROR forged <b>&\u202e"
HOSTILE_SHOWN = "'a\\nERROR forged \\x3cb\\x3e\\x26\\u202e'"


def disk(code: int) -> MediaRootError:
    return MediaRootError("save", "a.jpg", OSError(code, "the system's words"))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RestoError("anything"), "anything"),
        (ConfigError("timeout", "takes seconds"), "timeout: takes seconds"),
        (NameRejected("../a", "has a part that is . or .."), "name '../a': has a part that is . or .."),
        (NameRejected(None, "is not a string"), "name 'None': is not a string"),
        (NameRejected(HOSTILE, "holds a control character"), f"name {HOSTILE_SHOWN}: holds a control character"),
        (UploadRejected("Too many files."), "Too many files."),
        (SignatureRejected("it has no nonce"), "signature: it has no nonce"),
        (disk(errno.ENOSPC), "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; free some space there"),
        (disk(errno.EDQUOT), "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; raise the quota there"),
        (disk(errno.EFBIG), "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; raise the file size limit there"),
        (
            disk(errno.EPERM),
            "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; "
            "it must be writable and on a file system with hard links",
        ),
        (
            disk(errno.EOPNOTSUPP),
            "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; it must be on a file system with hard links",
        ),
        (
            disk(errno.EXDEV),
            "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; "
            "a folder in it is another file system; name that folder in RESTO_LINKED_FOLDERS",
        ),
        (
            disk(errno.ELOOP),
            "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; "
            "put a file or a folder in its place, or name a linked folder in RESTO_LINKED_FOLDERS",
        ),
        (disk(errno.ENODEV), "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; see that its disk is mounted"),
        (
            disk(errno.EEXIST),
            "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; save it under another name, or with overwrite=True",
        ),
        (
            disk(errno.EMFILE),
            "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; raise the limit of open files (ulimit -n)",
        ),
        (
            disk(errno.EROFS),
            "cannot save 'a.jpg' in MEDIA_ROOT: the system's words; look at the disk of MEDIA_ROOT and its permissions",
        ),
        (
            MediaRootError("read", HOSTILE, OSError("no number")),
            f"cannot read {HOSTILE_SHOWN} in MEDIA_ROOT: no number; look at the disk of MEDIA_ROOT and its permissions",
        ),
        (DeliveryError("media-01", "a.jpg", "answered 403"), "media-01: 'a.jpg': answered 403"),
        (DeliveryError("media-01", HOSTILE, "answered 403"), f"media-01: {HOSTILE_SHOWN}: answered 403"),
    ],
)
def test_an_error_says_in_one_line(error, line):
    """Each builds its text from its facts, and what a client chose in it is quoted."""
    assert str(error) == line


@pytest.mark.parametrize(("count", "words"), [(0, "0 bytes"), (1, "1 byte"), (2, "2 bytes"), (1200, "1,200 bytes")])
def test_one_thing_is_not_several(count: int, words: str) -> None:
    """In lines for people."""
    assert counted(count, "byte") == words


def test_a_replication_error_names_every_host_that_failed_in_order():
    """Not one of them at random."""
    failures = {
        host: DeliveryError(host, HOSTILE, reason)
        for host, reason in [("media-02", "answered 500"), ("media-01", "no connection within 2 s")]
    }
    error = ReplicationError("save", HOSTILE, failures, done=1, required=3)
    assert str(error) == (
        f"save {HOSTILE_SHOWN}: done by 1 media server, 3 required: "
        "media-01: no connection within 2 s; media-02: answered 500"
    )


def test_errors_keep_their_facts():
    """A caller decides by attributes, never by text."""
    config = ConfigError("timeout", "takes seconds")
    assert (config.setting, config.problem) == ("timeout", "takes seconds")
    name = NameRejected("a/", "ends with a slash")
    assert (name.name, name.reason) == ("a/", "ends with a slash")
    delivery = DeliveryError("media-01", "a", "answered 403", status=403, permanent=True)
    assert (delivery.host, delivery.name, delivery.reason) == ("media-01", "a", "answered 403")
    assert (delivery.status, delivery.permanent) == (403, True)
    replication = ReplicationError("delete", "a", {"media-01": delivery}, done=0, required=1)
    assert (replication.action, replication.name, replication.failures) == ("delete", "a", {"media-01": delivery})
    assert (replication.done, replication.required, replication.retry_after) == (0, 1, 5)


def test_a_delivery_error_is_temporary_and_has_no_status_unless_it_is_said():
    """A host that did not answer may answer later."""
    delivery = DeliveryError("media-01", "a", "no connection within 2 s")
    assert (delivery.status, delivery.permanent) == (None, False)


def test_a_delivery_error_is_not_changed():
    """Whoever knows a fact better makes another one; the first says what it said, and both have the same cause."""
    error = DeliveryError("media-01", "a", "answered 508", status=508, retry_after=2.0)
    error.__cause__ = cause = OSError("why")
    with pytest.raises(AttributeError, match=r"with_facts\(permanent=...\) makes another one"):
        error.permanent = True
    better = error.with_facts(permanent=True, reason="a circle")
    assert vars(better) == vars(error) | {"permanent": True, "reason": "a circle"}
    assert (error.permanent, error.reason) == (False, "answered 508")
    assert str(better) == "media-01: 'a': a circle" and better.args == ("media-01", "a", "a circle")
    assert better.__cause__ is cause
    with pytest.raises(TypeError):
        error.with_facts(wrong=1)


def test_a_delivery_error_can_be_raised_anywhere():
    """Python notes where it was raised, and may note more: that is no fact of it."""
    error = DeliveryError("media-01", "a", "answered 500")
    with pytest.raises(DeliveryError) as caught:
        raise error from ValueError("why")
    caught.value.__traceback__ = None  # as contextlib and concurrent.futures do
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_failures_of_a_replication_error_are_its_own():
    """What the caller does to its mapping later changes no error."""
    failures = {"media-01": DeliveryError("media-01", "a", "answered 500")}
    error = ReplicationError("save", "a", failures, done=0, required=1)
    failures.clear()
    assert list(error.failures) == ["media-01"]


def test_an_upload_is_rejected_with_400_unless_it_says_otherwise():
    """The status and the headers are those of the answer."""
    assert UploadRejected("No.").http_status == 400
    assert UploadRejected("No.").headers == ()
    error = UploadRejected("Who are you?", 401, [("WWW-Authenticate", "Basic")])
    assert (error.http_status, error.headers) == (401, (("WWW-Authenticate", "Basic"),))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_media_root_without_space_is_full(code):
    """The disk, the quota and the limit of a file's size are one to the client."""
    assert disk(code).full
    assert disk(code).errno == code


def test_a_media_root_that_refuses_otherwise_is_not_full():
    """Only space makes a 507."""
    assert not disk(errno.EACCES).full
    assert not MediaRootError("read", "a", OSError("no number")).full
    assert not disk(errno.ENOENT).away
    assert MediaRootError("find", ".resto/id", OSError(errno.ENOENT, "it is gone")).away


def test_the_module_exports_its_tree_and_nothing_else():
    """Whoever catches RestoError catches all."""
    classes = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert all(issubclass(each, RestoError) for each in classes.values())
    assert set(errors.__all__) == {*classes, "counted", "shown"}


# shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cat.jpg", "'cat.jpg'"),
        ("it's", '"it\'s"'),
        ("", "''"),
        (5, "'5'"),
        ("é\udc80\0\r\n", "'\\xe9\\udc80\\x00\\r\\n'"),
        (HOSTILE, HOSTILE_SHOWN),
        ("a" * 78, "'" + "a" * 78 + "'"),
        ("a" * 79, "'" + "a" * 75 + "...'"),
    ],
)
def test_shown_quotes(text, line):
    """Text is put in quotes, and whatever a terminal, a log or a page would interpret is escaped."""
    assert shown(text) == line


def test_shown_takes_a_limit():
    """Longer text is cut, and still ends in the quote it began with."""
    assert shown("it's a long name", 12) == '"it\'s a ..."'


@given(st.text(st.characters(codec=None) | st.sampled_from("<>&'\"\\\n\x1b")), st.integers(8, 200))
def test_shown_is_safe_whatever_a_client_sends(text, limit):
    """It is one line of printable ASCII within the limit, in its quotes, without markup."""
    line = shown(text, limit)
    assert len(line) <= limit
    assert line.isascii()
    assert line.isprintable()
    assert not set(line) & set("<>&")
    assert line[0] == line[-1]
    assert line[0] in "'\""


@pytest.mark.parametrize(
    "error",
    [
        DeliveryError("media-01", "a.jpg", "answered 403", status=403, permanent=True),
        ReplicationError("save", "a.jpg", {"media-01": DeliveryError("media-01", "a.jpg", "no")}, done=1, required=2),
        UploadRejected("no", 415, [("X-Why", "y")]),
        SignatureRejected("it has expired"),
        MediaRootError("save", "a.jpg", OSError(28, "No space left on device")),
    ],
)
def test_an_error_survives_pickling(error: Exception) -> None:
    """Errors travel between processes, in task queues and in test runners."""
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again).keys() == vars(error).keys()
    assert [value for value in vars(again).values() if not isinstance(value, dict)] == [
        value for value in vars(error).values() if not isinstance(value, dict)
    ]
