"""Memory does not grow with the size of a file: 2 GiB through a real WSGI server to three real media servers."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from wsgi_servers import running

SIZE = 2 << 30
GROWTH = 32 << 10  # KiB
BLOCK = bytes(range(256)) * 4096  # 1 MiB
HEAD = b'--b\r\nContent-Disposition: form-data; name="f"; filename="large.bin"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"


def body(size: int) -> Iterator[bytes]:
    yield HEAD
    for _ in range(size // len(BLOCK)):
        yield BLOCK
    yield TAIL


def upload(url: str, size: int) -> tuple[str, int]:
    """Return the digest of the body as the application read it, and the peak memory of the server in KiB."""
    headers = {
        "Content-Type": "multipart/form-data; boundary=b",
        "Content-Length": str(size + len(HEAD) + len(TAIL)),
    }
    response = urllib3.request("POST", url, body=body(size), headers=headers, retries=False, timeout=600)
    assert response.status == 200, response.data
    return response.data.decode(), int(response.headers["X-Peak"])


@pytest.fixture
def hosts(media_servers: Any) -> Any:
    """Three nginx."""
    return media_servers("nginx", 3)


@pytest.fixture
def server(tmp_path: Path, hosts: Any) -> Iterator[str]:
    """gunicorn with threads, and three nginx behind it."""
    environ = {
        "MEDIA_ROOT": str(tmp_path / "media"),
        "RESTO_MEDIA_HOSTS": " ".join(host.url for host in hosts),
        "RESTO_TIMEOUT": "60",  # seconds: this is a test of memory, on a machine that may be busy
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    with running("gunicorn-gthread", "large_app:application", tmp_path / "gunicorn.log", environ) as server:
        yield server.url


def digest_of(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def test_two_gibibytes_reach_three_servers_in_constant_memory(server: str, tmp_path: Path, hosts: Any) -> None:
    """The server's resident memory grows by less than 32 MiB over what a small upload needs."""
    _, before = upload(server, len(BLOCK))
    digest, after = upload(server, SIZE)
    assert digest == digest_of(body(SIZE))
    assert after - before < GROWTH
    content = digest_of(itertools.repeat(BLOCK, SIZE // len(BLOCK)))
    for root in [tmp_path / "media", *(Path(host.root) for host in hosts)]:
        (copy,) = [path for path in root.rglob("large-*.bin") if path.stat().st_size == SIZE]
        assert digest_of(read(copy)) == content
        copy.unlink()
