"""``/__index__``: every name below the root with its size, time and digest, in pages; ``?gone=1``: what was deleted.

The order is that of a walk, folder by folder, each folder's entries sorted. So a page begins with the name after the
last one's end, whatever came and went meanwhile, and memory grows with a page, not with the tree. Each page reads the
folders that it is in once. What is not a name (hidden, a link, not UTF-8) is left out. ``node`` calls this;
``catch_up`` reads it, on another machine.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from email.utils import formatdate
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

from ... import names
from ...errors import MediaRootError, NameRejected
from ...fields.digests import format_digest
from ..answers import Answer, Refused
from ..caller import wants_json
from ..files import marks
from ..files.store import PATH_BYTES_MAX, Entry, Store
from ..paging import page_of, query_of, query_text
from ..tree.role import Role
from .pages import html_page, json_page, table

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["index_page", "names_after"]

ENTRIES_AT_ONCE = 1000  # of a folder, read at a time

log = logging.getLogger("resto_wsgi")


def index_page(environ: WSGIEnvironment, role: Role) -> Answer:
    """Return a page of the index of the node that has this role."""
    query = query_of(environ)
    after, limit = page_of(query)
    if after and not _is_name(after):
        raise Refused("400 Bad Request", "after is no name")
    # A node that catches up learns from the id what its files have come through, see ``hops``.
    own = {"node": role.node_id} if role.node_id else {}
    gone = {"gone": 1} if query.get("gone") == "1" else {}
    found = _gone(role, after) if gone else names_after(role.store, after)
    chosen = list(islice(found, limit))
    following = query_text(after=chosen[-1], limit=limit, **gone) if len(chosen) == limit else None
    if gone:
        return _deleted_page(environ, chosen, following, own)
    records = [record for name in chosen if (record := _record(role.store, name))]
    if wants_json(environ):
        return json_page({"names": records, "next": following, **own}, following)
    return _names_page(records, following)


def _names_page(records: list[dict[str, Any]], following: str | None) -> Answer:
    rows = [
        (
            f'<a href="./{escape(names.quote(each["name"]))}">{escape(each["name"])}</a>',
            str(each["size"]),
            escape(formatdate(each["mtime_ns"] // 1_000_000_000, usegmt=True)),
            escape(each.get("digest", "")),
        )
        for each in records
    ]
    links = '<p><a href="?gone=1">what was deleted</a></p>'
    return html_page("Index", [links, table(["name", "size", "time", "digest"], rows)], following)


def names_after(store: Store, after: str = "") -> Iterator[str]:
    """Yield the name of every file that comes after ``after`` in the order of the walk."""
    place = after.split("/")
    # The folders that it stopped in, the innermost last; not a call for each: a name may have more than Python nests.
    levels = [_entries(store, "/".join(place[:depth]), last) for depth, last in enumerate(place)]
    while levels:
        name, folder = next(levels[-1], ("", False))
        if not name:
            levels.pop()
        elif folder:
            levels.append(_entries(store, name, ""))
        else:
            yield name


def _entries(store: Store, folder: str, last: str) -> Iterator[tuple[str, bool]]:
    """Yield the names in a folder whose last parts come after ``last``, and which of them are folders.

    The folder is read in parts: all of its entries may be more than memory is to hold. One that cannot be listed, such
    as ``lost+found``, is passed over and told: it must not keep who catches up from all the others.
    """
    while entries := _listed(store, folder, last):
        for each in entries:
            name = _join(folder, each.name)
            if _is_name(name):
                yield name, each.folder
        last = entries[-1].name
        if len(entries) < ENTRIES_AT_ONCE:
            return


def _listed(store: Store, folder: str, last: str) -> list[Entry] | None:
    try:
        return store.entries(folder, last, ENTRIES_AT_ONCE)
    except MediaRootError as error:
        if not folder:
            raise
        log.warning("not in the index: %s", error)
        return None


def _gone(role: Role, after: str) -> Iterator[str]:
    """Yield what was deleted and is still not here."""
    return (name for name in role.tombstones(after) if role.store.state(name) is None)


def _record(store: Store, name: str) -> dict[str, Any] | None:
    master = store.open(name)
    if master is None:  # deleted since its folder was read
        return None
    with master.file as file:
        record: dict[str, Any] = {"name": name, "size": master.size, "mtime_ns": master.state.mtime_ns}
        if (digest := marks.read_digest(file.fileno(), master.state)) is not None:
            record["digest"] = format_digest(digest)
        if (generation := store.generation(name, file.fileno())) is not None:
            record["generation"] = generation
    return record


def _deleted_page(environ: WSGIEnvironment, chosen: list[str], following: str | None, own: dict[str, str]) -> Answer:
    if wants_json(environ):
        return json_page({"gone": chosen, "next": following, **own}, following)
    return html_page("Deleted", [table(["name"], [(escape(name),) for name in chosen])], following)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_name(text: str) -> bool:
    with contextlib.suppress(NameRejected):
        return names.check(text, PATH_BYTES_MAX) == text
    return False
