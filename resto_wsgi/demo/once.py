"""``resto demo --once``: upload real files as a browser does, read every copy back, compare, tell.

It is a client: it knows the page's address and what the page answers, and nothing of the servers behind it. No file
is held in memory, neither on its way out nor on its way back. A copy counts as equal only if its size and SHA-256 are
those of the file that was sent. ``run`` calls it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from urllib3.fields import RequestField

from ..errors import RestoError
from .app import STATIC, human_size

__all__ = ["EQUAL", "Sample", "post", "read_back", "run_once", "samples"]

EQUAL = "equal"

_BIG = 64 * 1024 * 1024
_BLOCK = 1024 * 1024
_TEXT = "Zażółć gęślą jaźń.\nÇa œuvre: Übergrößenträger.\nいろはにほへと ちりぬるを\n"
_WIDTH = 132  # columns of the table without a terminal: a whole SHA-256 and all else
_ANSWER_WITHIN = 120.0  # seconds without a byte: 64 MiB are made durable four times over before the answer comes


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One file to upload, and what every copy of it must be."""

    filename: str
    path: str
    content_type: str
    size: int
    sha256: str


def run_once(page: str, folder: str, console: Console) -> int:
    """Upload the samples to the demo at ``page``, print the table, and return the exit status."""
    files = samples(folder)
    saved = post(page, files)
    pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=30))
    rows = [(sample, _statuses(pool, sample, answer)) for sample, answer in zip(files, saved, strict=True)]
    pool.clear()
    _print_table(console, rows)
    statuses = [status for _, row in rows for status in row.values()]
    bad = sum(status != EQUAL for status in statuses)
    if bad or not all(row for _, row in rows):
        console.print(f"{bad} of {len(statuses)} copies are not what was sent.", style="bold red")
        return 1
    console.print(f"All {len(statuses)} copies are equal to what was sent.", style="bold green")
    return 0


def samples(folder: str) -> list[Sample]:
    """Return the files to upload: a photograph and a PDF that are shipped, a text and 64 MiB made in ``folder``."""
    text = os.path.join(folder, "text")
    with open(text, "w", encoding="utf-8") as made:
        made.write(_TEXT)
    big = os.path.join(folder, "big")
    noise = random.Random(64)  # noqa: S311 - sample content, the same at every run
    with open(big, "wb") as made_big:
        for _ in range(_BIG // _BLOCK):
            made_big.write(noise.randbytes(_BLOCK))
    return [
        _sample("lake.jpg", str(STATIC / "lake.jpg"), "image/jpeg"),
        _sample("leaflet.pdf", str(STATIC / "leaflet.pdf"), "application/pdf"),
        _sample("Zażółć gęślą jaźń.txt", text, "text/plain"),
        _sample("64 MiB.bin", big, "application/octet-stream"),
    ]


def _sample(filename: str, path: str, content_type: str) -> Sample:
    digest, size = hashlib.sha256(), 0
    for block in _blocks(path):
        digest.update(block)
        size += len(block)
    return Sample(filename=filename, path=path, content_type=content_type, size=size, sha256=digest.hexdigest())


def post(page: str, files: Sequence[Sample]) -> list[dict[str, Any]]:
    """Upload ``files`` in one multipart request, and return what the page says of each, in their order.

    Raises `RestoError` if the page refuses, or does not tell of each file.
    """
    boundary = secrets.token_hex(16)
    parts = [(_part_head(boundary, each), each) for each in files]
    tail = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + each.size + 2 for head, each in parts) + len(tail)
    headers = {
        "Accept": "application/json",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(length),
    }
    try:
        with urllib3.PoolManager(retries=False, timeout=_ANSWER_WITHIN) as pool:
            answer = pool.request("POST", f"{page}upload", body=_body(parts, tail), headers=headers, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        raise RestoError(f"the upload broke: {error}") from error
    return _files_of(answer, len(files))


def _files_of(answer: urllib3.BaseHTTPResponse, count: int) -> list[dict[str, Any]]:
    try:
        content = json.loads(answer.data)
    except ValueError:
        content = {}
    if answer.status != 200:
        raise RestoError(f"the upload was refused with {answer.status}: {content.get('message', answer.reason)}")
    files: list[dict[str, Any]] = content.get("files", [])
    if len(files) != count:
        raise RestoError(f"{count} files were uploaded, and the page tells of {len(files)}")
    return files


def _part_head(boundary: str, sample: Sample) -> bytes:
    field = RequestField("files", b"", filename=sample.filename)
    field.make_multipart(content_type=sample.content_type)
    return f"--{boundary}\r\n{field.render_headers()}".encode()


def _body(parts: Sequence[tuple[bytes, Sample]], tail: bytes) -> Iterator[bytes]:
    for head, sample in parts:
        yield head
        yield from _blocks(sample.path)
        yield b"\r\n"
    yield tail


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _statuses(pool: urllib3.PoolManager, sample: Sample, saved: Mapping[str, Any]) -> dict[str, str]:
    """Return what each media server holds of one file: by ``host:port``, `EQUAL` or what is wrong."""
    if (saved["size"], saved["sha256"]) != (sample.size, sample.sha256):
        return {urlsplit(copy["url"]).netloc: "not as sent" for copy in saved["copies"]}
    return {urlsplit(copy["url"]).netloc: read_back(pool, copy["url"], sample) for copy in saved["copies"]}


def read_back(pool: urllib3.PoolManager, url: str, sample: Sample) -> str:
    """Read the copy at ``url`` to its end, and return `EQUAL`, or what is wrong with it in a word or two."""
    digest, size = hashlib.sha256(), 0
    try:
        answer = pool.request("GET", url, preload_content=False, redirect=False)
        if answer.status != 200:
            answer.drain_conn()
            return str(answer.status)
        for block in answer.stream(_BLOCK, decode_content=False):
            digest.update(block)
            size += len(block)
    except urllib3.exceptions.HTTPError:
        return "unreadable"
    return EQUAL if (size, digest.hexdigest()) == (sample.size, sample.sha256) else "differs"


def _print_table(console: Console, rows: Sequence[tuple[Sample, Mapping[str, str]]]) -> None:
    if not console.is_terminal:
        console.width = _WIDTH
    table = Table(title="What each media server holds", title_justify="left", box=box.ROUNDED)
    table.add_column("name", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("sha256", overflow="fold", style="dim")
    for host in rows[0][1]:
        table.add_column(f":{urlsplit(f'//{host}').port}", no_wrap=True)
    for sample, row in rows:
        states = (Text(status, style="green" if status == EQUAL else "bold red") for status in row.values())
        table.add_row(Text(sample.filename), human_size(sample.size), sample.sha256, *states)
    console.print(table)
