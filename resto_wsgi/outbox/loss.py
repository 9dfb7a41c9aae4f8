"""Whether the outbox that is opened is the one that was here, and as new as it was: a small note beside it tells.

    the note           the outbox                what that means
    none               any                       it is the first one here, and is noted from now on
    of any             new                       lost; that matters if it owed something, or was all that knew the names
    of this id         older, or of another id   restored: nobody knows what was saved and deleted since
    of this id         as new or newer           nothing is lost

The note is written when the outbox is opened and closed, and now and then in between. A crash leaves an older note,
which says less and nothing wrong. If the whole folder is restored, the note is of then, too, and nothing is found. What
a restored outbox cannot know any more is taken back in the transaction that finds it, before the note is renewed; so
after a crash it is found once more. The outbox alone calls this.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from typing import NamedTuple

from . import tables as sql
from .connection import Connection
from .recording import expel_others

__all__ = ["NO_MASTER", "Note", "compare", "is_news", "read", "write"]

NO_MASTER = "no master"  # the kind of an outbox that alone knows which names there are

LOST = "the outbox that was here on {day} is gone, with what it owed"
RESTORED = "the outbox is older than the one of {day}, from a backup perhaps, and knows of no save and no delete since"
DELETES = (
    "what was deleted may still be on a media server that missed it (`resto status NAME` tells): "
    "delete it again with `Replicator.delete(NAME)`"
)
SENT_AGAIN = "every media server is sent all that MEDIA_ROOT has once more, by itself"
BY_NAME = (
    "files are still read, replaced and deleted by their names; to have all of them listed, and sent to media servers "
    "that are new, copy the files of one media server into MEDIA_ROOT (rsync), and `resto sync` each in turn; of a "
    "file that was replaced meanwhile, media servers may hold different versions until it is saved again"
)


class Note(NamedTuple):
    """What is noted of an outbox: if something was ``owed``, and ``alone`` if it knew what no master has.

    ``written`` is in seconds since 1970.
    """

    outbox: str
    generation: int
    owed: bool
    alone: bool
    written: float


def is_news(note: Note, noted: Note | None) -> bool:
    """Return True if a note says more than the one that is there; so on a site that rests, none is written."""
    return noted is None or note._replace(written=noted.written) != noted


def read(path: str) -> Note | None:
    """Return the note at ``path``, None if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError), open(path, encoding="ascii") as file:
        outbox, generation, owed, alone, written = json.load(file)
        return Note(str(outbox), int(generation), bool(owed), bool(alone), float(written))
    return None


def write(path: str, note: Note) -> None:
    """Put the note in the place of the one before; on a disk that refuses it, that one stays.

    It is not made durable: after a power cut an older note, or none that can be read, tells less.
    """
    part = f"{path}.{secrets.token_hex(4)}"  # many processes may write it at once
    try:
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump(note, file)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)


def compare(connection: Connection, noted: Note | None, kind: str, now: float) -> tuple[str, Note]:
    """Return what the outbox has lost since it was noted, "" if nothing, and what is to be noted of it now."""
    lost = _find(connection, noted, kind) if noted else ""  # first: the other gives an outbox its id
    return lost, _current(connection, kind, now)


def _current(connection: Connection, kind: str, now: float) -> Note:
    connection.execute(sql.NOTE_ONCE, ("outbox", secrets.token_hex(16)))
    (outbox,) = connection.execute(sql.META, ("outbox",)).fetchone()
    generation, owed = connection.execute(sql.STATE).fetchone()
    return Note(outbox, generation, bool(owed), kind == NO_MASTER and generation > 0, now)


def _find(connection: Connection, noted: Note, kind: str) -> str:
    """Return what is lost; and take back what the outbox cannot know any more."""
    named = connection.execute(sql.META, ("outbox",)).fetchone()
    generation, _ = connection.execute(sql.STATE).fetchone()
    alone, day = kind == NO_MASTER, time.strftime("%Y-%m-%d %H:%M", time.localtime(noted.written))
    if not named and not generation:
        if not (noted.owed or (alone and noted.alone)):
            return ""  # all was delivered, and it was moved away
        lost = LOST
    elif named != (noted.outbox,) or generation < noted.generation:
        lost = RESTORED
        if alone:  # a name that was deleted may have been saved since: only the hosts know
            connection.execute(sql.EXHUME_ALL)
        else:  # a host may lack what was saved since, and owes nothing
            expel_others(connection, ())
    else:
        return ""
    return f"{lost.format(day=day)}; {BY_NAME if alone else SENT_AGAIN}; {DELETES}"
