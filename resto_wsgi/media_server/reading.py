"""Answers to readers: a file, ranges of it, or the listing of a folder.

The file's version is its ETag, that of nginx. What a browser would run as a page or a script of this origin is sent
as an attachment: uploads are the work of strangers.
"""

from __future__ import annotations

import json
import mimetypes
import re
import secrets
from collections.abc import Iterable, Sequence
from os import stat_result
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, quote, urlencode

from .. import names
from ..errors import NameRejected
from ..fields.dates import format_date
from ..fields.digests import format_digest, wants_digest
from .answers import Answer, Header, Refused
from .body import BLOCK
from .conditions import range_applies, unchanged
from .files import marks
from .files.store import Entry, etag_of
from .ranges import Blocks, Parts, Span, Unsatisfiable, content_range, parse

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["MAX_ENTRIES", "Page", "file_answer", "page_answer", "page_of", "presented"]

MAX_ENTRIES = 10_000  # of a folder in one answer: about 1 MB of JSON
ENTRIES = 1000  # of a folder in one answer, where nobody asks for a number

SCRIPTED = re.compile(r"html|[/+]xml|(?:java|ecma)script|/xsl")  # media types that a browser would run, on our origin

_LIMIT = re.compile(r"[1-9][0-9]{0,8}")

Page = tuple[str, int]  # a folder's entries after this one, and how many


def file_answer(
    environ: WSGIEnvironment, file: BinaryIO, status: stat_result, name: str, generation: int | None, *, inline: bool
) -> Answer:
    """Return the answer to GET or HEAD of a file, which is closed with the answer's body, or here.

    ``inline`` leaves to browsers what they would run. Refuses what a condition or a range makes impossible.
    """
    try:
        answer = _file_answer(environ, file, status, name, generation, inline)
        if environ["REQUEST_METHOD"] == "HEAD" or answer.body == ():
            answer.body = ()
            file.close()
    except BaseException:
        file.close()
        raise
    return answer


def _file_answer(
    environ: WSGIEnvironment, file: BinaryIO, status: stat_result, name: str, generation: int | None, inline: bool
) -> Answer:
    size, mtime, etag = status.st_size, int(status.st_mtime), etag_of(status)
    version: list[Header] = [("ETag", f'"{etag}"'), ("Last-Modified", format_date(mtime))]
    if generation is not None:
        version.append(("Resto-Generation", str(generation)))
    if unchanged(environ, etag, mtime):
        return Answer("304 Not Modified", version)
    if digest := _digest(environ, file, status):
        version.append(("Repr-Digest", format_digest(digest)))
    kind = _media_type(name)
    headers = [*version, ("Accept-Ranges", "bytes"), *presented(name, "", inline=inline)]
    spans = _spans(environ, etag, mtime, size)
    if spans is None:
        headers += [("Content-Type", kind), ("Content-Length", str(size))]
        return Answer("200 OK", headers, _whole(environ, file, size))
    return _partial(file, spans, size, kind, headers)


def presented(name: str, kind: str | None = None, *, inline: bool) -> list[Header]:
    """Return what tells a browser how to take a file, with its media type, or with ``kind``, which "" leaves out."""
    headers = [("X-Content-Type-Options", "nosniff")]
    if SCRIPTED.search(_media_type(name)) and not inline:
        headers.append(("Content-Disposition", "attachment"))
    kind = _media_type(name) if kind is None else kind
    return [*headers, ("Content-Type", kind)] if kind else headers


def _spans(environ: WSGIEnvironment, etag: str, mtime: int, size: int) -> list[Span] | None:
    wanted = environ.get("HTTP_RANGE")
    if wanted is None or environ["REQUEST_METHOD"] != "GET" or not range_applies(environ, etag, mtime):
        return None
    try:
        return parse(wanted, size)
    except Unsatisfiable:
        unsatisfied = [("Content-Range", f"bytes */{size}")]
        raise Refused("416 Range Not Satisfiable", "no such range in the file", unsatisfied) from None


def _partial(file: BinaryIO, spans: Sequence[Span], size: int, kind: str, headers: list[Header]) -> Answer:
    if len(spans) == 1:
        ((first, end),) = spans
        headers += [("Content-Type", kind), ("Content-Range", content_range((first, end), size))]
        headers.append(("Content-Length", str(end - first)))
        return Answer("206 Partial Content", headers, Blocks(file, (first, end)))
    boundary = secrets.token_hex(16)  # nobody can have put it into the file
    parts = Parts(file, spans, size, kind, boundary)
    headers += [("Content-Type", f"multipart/byteranges; boundary={boundary}"), ("Content-Length", str(parts.length))]
    return Answer("206 Partial Content", headers, parts)


def _whole(environ: WSGIEnvironment, file: BinaryIO, size: int) -> Iterable[bytes]:
    wrapper: Any = environ.get("wsgi.file_wrapper")
    whole: Iterable[bytes] = wrapper(file, BLOCK) if wrapper else Blocks(file, (0, size))
    return whole


def _digest(environ: WSGIEnvironment, file: BinaryIO, status: stat_result) -> bytes | None:
    """Return the file's SHA-256, where it is known, or is asked for and can be computed (RFC 9530, section 3)."""
    digest = marks.read_digest(file.fileno(), status)
    if digest is None and wants_digest(environ.get("HTTP_WANT_REPR_DIGEST", "")):
        digest = marks.compute_digest(file.fileno(), status)
    return digest


def _media_type(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name.rpartition("/")[2], strict=False)
    return "application/octet-stream" if encoding or kind is None else kind


def page_of(environ: WSGIEnvironment) -> Page:
    """Return the part of a folder's listing that the query asks for: ``?after=NAME&limit=NUMBER``, both optional."""
    wanted = Refused("400 Bad Request", f"wanted ?after=NAME&limit=NUMBER, with 1 to {MAX_ENTRIES}")
    try:
        query = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=8, errors="surrogateescape")
    except ValueError:
        raise wanted from None
    limit = query.get("limit", [str(ENTRIES)])[-1]
    if not _LIMIT.fullmatch(limit):
        raise wanted
    return query.get("after", [""])[-1], min(int(limit), MAX_ENTRIES)


def page_answer(environ: WSGIEnvironment, entries: Sequence[Entry], page: Page) -> Answer:
    """Return entries as nginx does with ``autoindex_format json``, and where the next ones are (RFC 8288)."""
    shown = [_shown(each) for each in entries if _is_name(each.name)]
    body = json.dumps(shown, ensure_ascii=False).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    if len(entries) == page[1]:
        query = urlencode({"after": entries[-1].name, "limit": page[1]}, quote_via=quote, errors="surrogateescape")
        headers.append(("Link", f'<?{query}>; rel="next"'))
    return Answer("200 OK", headers, () if environ["REQUEST_METHOD"] == "HEAD" else [body])


def _shown(entry: Entry) -> dict[str, object]:
    kind = "directory" if entry.folder else "file"
    shown: dict[str, object] = {"name": entry.name, "type": kind, "mtime": format_date(entry.mtime)}
    return shown if entry.size is None else {**shown, "size": entry.size}


def _is_name(text: str) -> bool:
    try:
        return names.check(text) == text
    except NameRejected:
        return False
