"""What readers get: ranges, validators, listings, types, and whether a stored file is served as it is or run.

The probes only ask and judge: what to change is in ``remedies``, and what they wrote is removed by ``cleaning``.
``run`` calls them.
"""

from __future__ import annotations

import json

from .. import names
from ..errors import counted
from .finding import Finding, Trouble
from .subject import Subject

__all__ = ["conditional", "dots", "listing", "ranges", "scripts"]

DIGITS = b"0123456789" * 10
SAMPLES = {  # what would be changed or run by a server that interprets it
    "page.html": b"<!doctype html><script>1</script>",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "script.php": b"<?php echo 6*7; ?>",
    "include.shtml": b'<!--#echo var="DATE_GMT" -->',
    "script.py": b"#!/usr/bin/env python3\nprint('Status: 200\\n\\n42')\n",
    "script.cgi": b"#!/bin/sh\necho; echo 42\n",
    "packed.gz": b"\x1f\x8b\x08\x00 not really",
}
RUN_BY_BROWSERS = ("page.html", "drawing.svg")


def ranges(subject: Subject) -> list[Finding]:
    """A part of a file can be asked for (RFC 9110, section 14)."""
    name = subject.name("range.jpg")
    subject.put(name, DIGITS)
    answer = subject.raw("GET", names.quote(name), {"Range": "bytes=12-17"})
    if answer.status == 206 and answer.body == b"234567":
        return [Finding("range", "ok", "206 with the bytes that were asked for")]
    if answer.status == 206:
        other = counted(len(answer.body), "other byte")
        return [subject.found("range", "unsafe", f"206 with {other} than were asked for")]
    return [subject.found("range", "warning", f"a Range is answered with {answer.status}: videos cannot be wound")]


def conditional(subject: Subject) -> list[Finding]:
    """A reader who has the file is not sent it again (RFC 9110, section 13)."""
    name = names.quote(subject.name("range.jpg"))
    headers = subject.raw("GET", name).headers
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    works = []
    if etag and subject.raw("GET", name, {"If-None-Match": _sendable(etag)}).status == 304:
        works.append("ETag")
    if modified and subject.raw("GET", name, {"If-Modified-Since": _sendable(modified)}).status == 304:
        works.append("Last-Modified")
    if works:
        return [Finding("conditional", "ok", f"304 by {' and by '.join(works)}")]
    return [subject.found("conditional", "warning", "a reader who has a file is sent it again")]


def listing(subject: Subject) -> list[Finding]:
    """Whether a folder is listed for us; in JSON that is of use to a comparison."""
    answer = subject.raw("GET", f"{subject.folder}/", {"Accept": "application/json"})
    if answer.status != 200 or b"range.jpg" not in answer.body:
        return [Finding("listing", "ok", "none: names are asked for one by one")]
    try:
        entries = json.loads(answer.body)
        known = [entry for entry in entries if entry["name"] == "range.jpg" and "size" in entry and "mtime" in entry]
    except (ValueError, TypeError, KeyError, RecursionError):
        known = []
    if known:
        return [Finding("listing", "ok", "JSON with sizes and times, for this machine at least")]
    return [subject.found("listing", "warning", "a page lists what is in a folder, for this machine at least")]


def dots(subject: Subject) -> list[Finding]:
    """What begins with a dot is not served, as ``.resto`` must not be if the root is a master's."""
    name = subject.name(".hidden/file.txt")
    subject.raw("MKCOL", f"{subject.folder}/.hidden/")
    stored = subject.raw_put(name, b"hidden").status
    if stored < 300 and subject.raw("GET", names.quote(name)).body == b"hidden":
        seen = "names that begin with a dot are served: a danger if it serves a MEDIA_ROOT and runs as its owner"
        return [subject.found("dots", "warning", seen)]
    return [Finding("dots", "ok", "names that begin with a dot are not served")]


def scripts(subject: Subject) -> list[Finding]:
    """Files come back as they were stored, whatever their names; browsers are told not to guess, nor to run them."""
    findings, run, encoded, guessed, active = [], [], [], False, []
    for leaf, content in SAMPLES.items():
        name = subject.name(f"types/{leaf}")
        subject.put(name, content)
        answer = subject.raw("GET", names.quote(name))
        if answer.body != content:
            run.append(f"{leaf} ({answer.status})")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            encoded.append(leaf)
        guessed = guessed or answer.headers.get("X-Content-Type-Options", "").strip().lower() != "nosniff"
        if leaf in RUN_BY_BROWSERS and not _is_defused(answer.headers):
            active.append(leaf.rpartition(".")[2])
    if run:
        findings.append(subject.found("scripts", "unsafe", f"not served as they were stored: {', '.join(run)}", "php"))
    else:
        findings.append(Finding("scripts", "ok", "PHP, CGI and server-side includes are served as files, and not run"))
    if encoded:
        findings.append(subject.found("encoded", "unsafe", f"sent with a Content-Encoding: {', '.join(encoded)}"))
    if guessed:
        findings.append(
            subject.found("nosniff", "warning", "browsers may guess types: an image can be taken for a page")
        )
    else:
        findings.append(Finding("nosniff", "ok", "browsers are told not to guess types"))
    if active:
        findings.append(
            subject.found("html", "warning", f"browsers run the {' and '.join(active)} that is stored there")
        )
    else:
        findings.append(Finding("html", "ok", "browsers run no HTML or SVG that is stored there"))
    return findings


def _is_defused(headers: object) -> bool:
    get = headers.get  # type: ignore[attr-defined]
    kind = get("Content-Type", "").partition(";")[0].strip().lower()
    sandboxed = "sandbox" in get("Content-Security-Policy", "").lower()
    attached = get("Content-Disposition", "").lower().startswith("attachment")
    return kind in ("text/plain", "application/octet-stream") or sandboxed or attached


def _sendable(validator: str) -> str:
    """A validator that can be sent back: in one line and of a sensible length, else one that matches nothing."""
    if len(validator) > 200 or not validator.isprintable() or not validator.isascii():
        raise Trouble("its validator is no line of text", 200)
    return validator
