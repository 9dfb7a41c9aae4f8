"""Answers to readers: a file, ranges of it, or the listing of a folder.

The file's version is its ETag, that of nginx. Uploads are the work of strangers, so what a browser would run is bytes
of no type and an attachment: an attachment alone still runs as a script of a page that trusts this server. ``node``
calls this, and the tree for what is sent through it.
"""

from __future__ import annotations

import json
import mimetypes
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import names
from ..errors import NameRejected
from ..fields.dates import format_date
from ..fields.digests import format_digest, wants_digest
from ..master.files import Master
from .answers import BLOCK_BYTES, JSON, UNKEPT, Answer, Header, Refused, whole_answer
from .conditions import range_applies, unchanged
from .files import marks
from .files.store import Entry, etag_of
from .paging import Page, next_page, query_text
from .ranges import Blocks, Parts, Span, Unsatisfiable, content_range, parse

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["file_answer", "folder_answer", "presented"]

# Media types that a browser would run, on our origin or as a script of another; MHTML is message/rfc822 and multipart.
SCRIPTED = re.compile(r"html|[/+]xml|(?:java|ecma|j|live|vb)script|/xsl|wasm|^message/|^multipart/")
SHOWN = "image/svg+xml"  # keeps its type, for <img> runs none of its scripts
VIEWED = "application/pdf"  # browsers do not open their viewer in a sandbox
OTHER = "application/octet-stream"
SANDBOX: Header = ("Content-Security-Policy", "sandbox; default-src 'none'")


def file_answer(environ: WSGIEnvironment, master: Master, name: str, generation: int | None, *, inline: bool) -> Answer:
    """Return the answer to GET or HEAD of a file, which is closed with the answer's body, or here.

    ``inline`` leaves to browsers what they would run. Refuses what a condition or a range makes impossible.
    """
    try:
        answer = _file_answer(environ, master, name, generation, inline)
        if environ["REQUEST_METHOD"] != "HEAD" and answer.body != ():
            return answer
    except BaseException:
        master.file.close()
        raise
    master.file.close()
    return replace(answer, body=())


def _file_answer(environ: WSGIEnvironment, master: Master, name: str, generation: int | None, inline: bool) -> Answer:
    file, size, mtime, etag = master.file, master.size, master.state.seconds, etag_of(master.state)
    version: list[Header] = [("ETag", f'"{etag}"'), ("Last-Modified", format_date(mtime))]
    if generation is not None:
        version.append(("Resto-Generation", str(generation)))
    if unchanged(environ, etag, mtime):
        return Answer("304 Not Modified", version)
    # After the conditions: whoever has this version already shall not have it hashed.
    if digest := _digest(environ, master):
        version.append(("Repr-Digest", format_digest(digest)))
    kind = _sent_type(name, inline)
    headers = [*version, ("Accept-Ranges", "bytes"), *presented(name, "", inline=inline)]
    spans = _spans(environ, etag, mtime, size)
    if spans is None:
        headers += [("Content-Type", kind), ("Content-Length", str(size))]
        return Answer("200 OK", headers, _whole(environ, file, size))
    return _partial(file, spans, size, kind, headers)


def presented(name: str, kind: str | None = None, *, inline: bool) -> list[Header]:
    """Return what tells a browser how to take a file, with its media type, or with ``kind``, which "" leaves out."""
    headers, own = [("X-Content-Type-Options", "nosniff")], _media_type(name)
    if not inline and own != VIEWED:
        headers.append(SANDBOX)
    if not inline and SCRIPTED.search(own):
        headers.append(("Content-Disposition", "attachment"))
    kind = _sent_type(name, inline) if kind is None else kind
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
    wrapper: Any = environ.get("wsgi.file_wrapper")  # the server's own way, which may be sendfile
    whole: Iterable[bytes] = wrapper(file, BLOCK_BYTES) if wrapper else Blocks(file, (0, size))
    return whole


def _digest(environ: WSGIEnvironment, master: Master) -> bytes | None:
    """Return the file's SHA-256 if it is known, or is asked for and can be computed (RFC 9530, section 3)."""
    fd = master.file.fileno()
    digest = marks.read_digest(fd, master.state)
    if digest is None and wants_digest(environ.get("HTTP_WANT_REPR_DIGEST", "")):
        digest = marks.compute_digest(fd, master.state)
    return digest


def _sent_type(name: str, inline: bool) -> str:
    kind = _media_type(name)
    return OTHER if SCRIPTED.search(kind) and kind != SHOWN and not inline else kind


def _media_type(name: str) -> str:
    # A .gz is sent as it is, and not as something else in Content-Encoding: its bytes are those of its digest.
    kind, encoding = mimetypes.guess_type(name.rpartition("/")[2], strict=False)
    return OTHER if encoding or kind is None else kind


def folder_answer(entries: Sequence[Entry], page: Page) -> Answer:
    """Return a page of entries as nginx does with ``autoindex_format json``, and the query of the next one."""
    shown = [_shown(each) for each in entries if _is_name(each.name)]
    following = query_text(after=entries[-1].name, limit=page.limit) if len(entries) == page.limit else None
    body = json.dumps(shown, ensure_ascii=False).encode()
    return whole_answer("200 OK", JSON, body, [UNKEPT, *next_page(following)])


def _shown(entry: Entry) -> dict[str, object]:
    kind = "directory" if entry.folder else "file"
    shown: dict[str, object] = {"name": entry.name, "type": kind, "mtime": format_date(entry.mtime)}
    return shown if entry.size is None else {**shown, "size": entry.size}


def _is_name(text: str) -> bool:
    try:
        return names.check(text) == text
    except NameRejected:
        return False
