"""The media roots that write below one prefix: two that do so at once overwrite and delete each other's files.

    first of all  ──> known: the latest to write
    another one   ──> the latest; the one before may be gone for good: a site that moved is no fault
    one that was the latest before ──> both are alive: told in the log, and to whoever writes there, for a DAY

What is known is kept in memory, and bounded: who may write there is trusted with worse than a line in a log. Only what
was admitted and carried out counts. Nothing is refused for it, since one of the two may be right. ``node`` calls this.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import shown
from ..fields.roots import ROOTS, format_roots, parse_root
from .answers import Answer
from .body import FileBody

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Roots"]

DAY = 86400.0  # seconds for which a root that wrote counts, and between two lines of a prefix
PREFIXES_MAX = 1000  # and of each ROOTS_MAX
ROOTS_MAX = 16

Write = Callable[["WSGIEnvironment", FileBody], Answer]

log = logging.getLogger("resto_wsgi")


@dataclass
class _Prefix:
    """``seen`` has the roots, the latest last: when each wrote, and from where. ``shared`` is when one came back."""

    seen: OrderedDict[str, tuple[float, str]] = field(default_factory=OrderedDict)
    shared: float | None = None
    told: float | None = None


class Roots:
    """Those of one server, in this process. ``clock`` is in seconds from any moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._prefixes: OrderedDict[str, _Prefix] = OrderedDict()
        self._lock = threading.Lock()

    def heeding(self, write: Write) -> Write:
        """Return a method of the node that also notes whose change it carries out, and tells if there are two."""

        def heed(environ: WSGIEnvironment, body: FileBody) -> Answer:
            answer = write(environ, body)
            said = environ.get("HTTP_RESTO_ROOT")
            if said is None and not self._prefixes:
                return answer
            roots = self.note(said or "", environ.get("PATH_INFO", ""), str(environ.get("REMOTE_ADDR") or "nowhere"))
            return replace(answer, headers=[*answer.headers, (ROOTS, format_roots(roots))]) if roots else answer

        return heed

    def note(self, said: str, path: str, address: str) -> list[str]:
        """Note a change; return the ids of the roots that write there at once, none if it is one."""
        found, now = parse_root(said, path), self._clock()
        with self._lock:
            if found is None:
                return self._around(path, now)
            identity, place = found
            prefix = self._prefixes.setdefault(place, _Prefix())
            self._prefixes.move_to_end(place)
            if len(self._prefixes) > PREFIXES_MAX:
                self._prefixes.popitem(last=False)
            latest = next(reversed(prefix.seen), identity)
            if identity != latest and identity in prefix.seen and now - prefix.seen[identity][0] < DAY:
                prefix.shared = now
            prefix.seen[identity] = now, address
            prefix.seen.move_to_end(identity)
            if len(prefix.seen) > ROOTS_MAX:
                prefix.seen.popitem(last=False)
            roots = _at_once(prefix, now)
            if roots and not (prefix.told is not None and now - prefix.told < DAY):
                prefix.told = now
                _tell(place, {each: prefix.seen[each][1] for each in roots})
            return roots

    def _around(self, path: str, now: float) -> list[str]:
        """Return the roots at once above a path of which nobody says where its name begins."""
        found = [_at_once(prefix, now) for place, prefix in self._prefixes.items() if path.startswith(place)]
        return next(filter(None, found), [])


def _at_once(prefix: _Prefix, now: float) -> list[str]:
    if prefix.shared is None or now - prefix.shared >= DAY:
        return []
    return [each for each, (last, _) in prefix.seen.items() if now - last < DAY]


def _tell(place: str, addresses: dict[str, str]) -> None:
    each = " and ".join(f"{identity} (from {shown(who, 50)[1:-1]})" for identity, who in sorted(addresses.items()))
    log.warning(
        "below %s there are names of several media roots, %s: each overwrites and deletes what the others saved; "
        "let application servers share one MEDIA_ROOT, or give each a path of its own",
        shown(place, 200),
        each,
    )
