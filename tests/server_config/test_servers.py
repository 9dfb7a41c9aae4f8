"""Real nginx, lighttpd and Apache run what `resto config` printed: who may do what, and what readers get."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from printed import LOOPBACK, STRANGER, Printed, ask, open_folder, printed, resto
from servers import eventually

from resto_wsgi import DeliveryError, ReplicationError, Replicator, names

KINDS = ("nginx", "lighttpd", "apache")
LIMIT = 1 << 20  # bytes: lighttpd counts in KiB, and keeps small bodies in memory
ODD = (
    "a b/ö #?%+;é.jpg",
    "%00%2e%2e%2fx",
    "日本語 🎉/e\u0301.png",
    "&<>\"'`$(x)|*{}[].txt",
    "a\\b"[0] + "/b/c/d/e.txt",
)


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Printed]:
    """Each server in turn, with a limit; this machine's first address may write."""
    with open_folder() as folder, Printed(request.param, folder) as server:
        limited = ["--max-body", "1m", "--naming", "content", "--allow", "10.9.8.0/24"]
        yield server.configure(*limited)


@pytest.fixture(autouse=True)
def empty(server: Printed) -> Iterator[None]:
    """A test leaves no file to the next."""
    yield
    for path in sorted(server.root.iterdir(), reverse=True):
        if path.name != ".temp":
            subprocess.run(["rm", "-r", path], check=True)


@pytest.fixture
def replicator(server: Printed, tmp_path: Path) -> Iterator[Replicator]:
    settings = {"media_root": tmp_path / "media", "background": False, "fsync": False}
    with Replicator(media_hosts=[server.url], **settings) as replicator:
        yield replicator


def test_the_replicator_saves_overwrites_and_deletes(server: Printed, replicator: Replicator) -> None:
    """Whatever the name, and whether or not its folders are there; a reader gets the very bytes."""
    for name in ODD:
        stored = replicator.save(name, b"first")
        replicator.save(stored.name, b"second", overwrite=True)
        url = f"{server.url}/{names.quote(stored.name)}"
        assert ask("GET", url, source=STRANGER).data == b"second"
        assert server.files() == {stored.name: b"second"}
        replicator.delete(stored.name)
        assert ask("GET", url).status == 404
        assert server.files() == {}


def test_the_limit_of_a_body_is_exact(server: Printed, replicator: Replicator) -> None:
    """What has the size of the limit is taken, a byte more is 413."""
    replicator.save("whole", bytes(LIMIT))
    with pytest.raises(ReplicationError) as caught:
        replicator.save("more", bytes(LIMIT + 1))
    (failure,) = caught.value.failures.values()
    assert isinstance(failure, DeliveryError) and failure.status == 413
    assert list(server.files()) == ["whole"]


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("PUT", {}, b"evil"),
        ("DELETE", {"Depth": "0"}, None),
        ("DELETE", {}, None),
        ("MKCOL", {}, None),
        ("POST", {}, b"evil"),
        ("PATCH", {}, b"evil"),
        ("MOVE", {"Destination": "/media/b"}, None),
        ("COPY", {"Destination": "/media/b"}, None),
        ("PROPPATCH", {}, b"<x/>"),
        ("LOCK", {}, None),
    ],
)
def test_a_stranger_only_reads(server: Printed, method: str, headers: dict[str, str], body: bytes | None) -> None:
    """Every method that changes anything is refused from another address; reading is not."""
    server.put("a/b.jpg", b"cat")
    for name in ("a/b.jpg", "a/new.jpg", "a/new/"):
        answer = ask(method, f"{server.url}/{name}", body, source=STRANGER, headers=headers)
        assert answer.status in (403, 405, 501), (name, answer.status)
    assert ask("GET", f"{server.url}/a/b.jpg", source=STRANGER).data == b"cat"
    assert server.files() == {"a/b.jpg": b"cat"} and os.listdir(server.root / "a") == ["b.jpg"]


@pytest.mark.parametrize("method", ["MOVE", "COPY", "PROPPATCH", "LOCK", "POST", "PATCH"])
def test_a_writer_has_no_method_that_is_not_needed(server: Printed, method: str) -> None:
    """PUT and DELETE, and MKCOL where folders need it: nothing else, from nobody."""
    server.put("a", b"cat")
    answer = ask(method, f"{server.url}/a", b"", headers={"Destination": f"{server.url}/b"})
    assert answer.status in (403, 405, 501)
    assert server.files() == {"a": b"cat"}


@pytest.mark.parametrize("headers", [{}, {"Depth": "0"}, {"Depth": "infinity"}, {"Depth": "0, 0"}, {"depth": "1"}])
@pytest.mark.parametrize(
    "name", ["a", "a/", "", "a/b", "a/b/", "a/b/.", "a//", "%61/", "x/../a/", "a%2F", "a%2f", "a/?x", "a?x"]
)
def test_no_delete_removes_a_folder(server: Printed, name: str, headers: dict[str, str]) -> None:
    """Not for a writer either, whatever it says of depth, and however the folder is written."""
    server.put("a/b/c.jpg", b"cat")
    answer = ask("DELETE", f"{server.url}/{name}", headers=headers)
    assert answer.status in (400, 403, 404, 409), answer.status
    assert server.files() == {"a/b/c.jpg": b"cat"}


@pytest.mark.parametrize("name", [".resto/x", ".temp/x", "a/.x", ".x", "a/.git/b", "%2eresto/x", "a//.x", "./.x"])
def test_what_is_hidden_is_neither_read_nor_written(server: Printed, name: str) -> None:
    """Whoever asks, and however the dot is written."""
    plain = name.replace("%2e", ".").replace("//", "/")
    server.put(plain, b"secret")
    server.put("a/b", b"")
    for source in ("127.0.0.1", STRANGER):
        answer = ask("GET", f"{server.url}/{name}", source=source)
        assert answer.status in (403, 404) and b"secret" not in answer.data
    assert ask("PUT", f"{server.url}/{name}", b"evil").status in (400, 403, 404)
    assert ask("DELETE", f"{server.url}/{name}", headers={"Depth": "0"}).status in (400, 403, 404)
    assert server.root.joinpath(plain).read_bytes() == b"secret"
    server.root.joinpath(plain).unlink()


def test_nothing_but_the_root_is_served(server: Printed) -> None:
    """Neither above it nor beside the path of the URL."""
    server.put("a", b"cat")
    (server.folder / "root-secret").write_bytes(b"secret")
    base = server.url.removesuffix("/media")
    for path in ("/a", "/", "/mediaa", "/media-secret", "/media/../root-secret", "/media/%2e%2e/conf", "/media../conf"):
        answer = ask("GET", base + path)
        assert answer.status in (400, 403, 404), path
        assert ask("PUT", base + path.replace("/a", "/new"), b"evil").status in (400, 403, 404, 405), path


def test_only_the_trusted_list_folders(server: Printed) -> None:
    """nginx lists as JSON, the others by PROPFIND; a stranger gets no name from either, index.html or not."""
    server.put("a/index.html", b"<script>")
    server.put("a/ö.jpg", b"cat")
    for method in ("GET", "PROPFIND"):
        for folder in ("a", "a/", ""):
            answer = ask(method, f"{server.url}/{folder}", source=STRANGER, headers={"Depth": "1"})
            assert answer.status in (301, 403, 404, 405) and b"index" not in answer.data, (method, folder)
    if server.kind == "nginx":
        listed = json.loads(ask("GET", f"{server.url}/a/").data)
        assert [(each["name"], each["size"]) for each in listed] == [("index.html", 8), ("ö.jpg", 3)]
    else:
        answer = ask("PROPFIND", f"{server.url}/a/", headers={"Depth": "1"})
        assert answer.status == 207
        assert {each.decode() for each in re.findall(rb"href>/media/a/([^<]*)<", answer.data)} >= {
            "index.html",
            "%c3%b6.jpg" if b"%c3" in answer.data else "%C3%B6.jpg",
        }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "application/octet-stream"),
        ("a.HTM", "application/octet-stream"),
        ("a.xhtml", "application/octet-stream"),
        ("a.xml", "application/octet-stream"),
        ("a.js", "application/octet-stream"),
        ("a.php", "application/octet-stream"),
        ("without", "application/octet-stream"),
        ("a.jpg.html", "application/octet-stream"),
        ("a.html.jpg", "image/jpeg"),
        ("a.JPG", "image/jpeg"),
        ("a.svg", "image/svg+xml"),
        ("a.SVG", "image/svg+xml"),
        ("a.pdf", "application/pdf"),
        ("a.txt", "text/plain"),
    ],
)
def test_what_a_browser_would_run_is_downloaded(server: Printed, name: str, kind: str) -> None:
    """HTML and scripts are bytes of no type that a browser knows, and it may not guess; SVG is an attachment."""
    server.put(name, b"<script>alert(1)</script>")
    answer = ask("GET", f"{server.url}/{name}", source=STRANGER)
    assert answer.headers["Content-Type"].partition(";")[0] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers.get("Content-Disposition") == ("attachment" if name.lower() == "a.svg" else None)
    assert ask("GET", f"{server.url}/gone").headers["X-Content-Type-Options"] == "nosniff"
    policy = None if name == "a.pdf" else "sandbox; default-src 'none'"
    assert answer.headers.get("Content-Security-Policy") == policy
    assert answer.headers.get("ETag"), "what cannot be validated is sent again each time"


@pytest.mark.parametrize("name", ["a.svg", "a.SVG", "a.html"])
@pytest.mark.parametrize("more", ["/a", "/a.png", "/", "/b/c.jpg", "/y.SVG"])
def test_a_file_is_no_folder(server: Printed, name: str, more: str) -> None:
    """What hangs below it would be this file by the rules of another name."""
    server.put(name, b"<svg/>")
    answer = ask("GET", f"{server.url}/{name}{more}", source=STRANGER)
    assert answer.status in (403, 404) and b"<svg/>" not in answer.data


def test_names_of_the_middleware_are_cached_for_a_year(server: Printed) -> None:
    """Those that its naming makes, where they are there; a name that may come later is not."""
    name = "ab" * 32
    for each in (f"{name}.jpg", f"2026/11/{name}", "plain.jpg", f"{name}0.jpg", f"x{name}.jpg"):
        url = f"{server.url}/{each}"
        assert "max-age=3" not in ask("GET", url).headers.get("Cache-Control", ""), each
        server.put(each, b"cat")
        cached = ask("GET", url, source=STRANGER).headers.get("Cache-Control", "")
        assert ("max-age=31536000" in cached) == (each in (f"{name}.jpg", f"2026/11/{name}")), each
        assert ("immutable" in cached) == ("max-age" in cached and server.kind != "lighttpd")


def test_what_is_received_is_on_the_file_system_of_the_root(server: Printed) -> None:
    """While a body comes in it is hidden there: in a folder, a file of its own (Apache), or with no name (lighttpd)."""
    place = {"nginx": ".temp/", "lighttpd": "#", "apache": ".davfs.tmp"}[server.kind]
    with socket.create_connection((LOOPBACK, server.port)) as client:
        client.sendall(b"PUT /media/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n" + bytes(500000))
        eventually(lambda: any(path.startswith(f"{server.root}/{place}") for path in server.received()))
        assert not (server.root / "slow").exists()
        client.sendall(bytes(100000))
        assert client.recv(12) == b"HTTP/1.1 201"
    assert server.files() == {"slow": bytes(600000)}


def test_part_of_a_file_is_not_put(server: Printed) -> None:
    """Content-Range would overwrite some bytes on Apache (RFC 9110, section 14.5)."""
    server.put("a", b"whole")
    answer = ask("PUT", f"{server.url}/a", b"X", headers={"Content-Range": "bytes 0-0/5"})
    assert answer.status in (400, 403, 501)
    assert server.files() == {"a": b"whole"}


def test_a_put_of_no_length_leaves_no_empty_file(server: Printed) -> None:
    """lighttpd and Apache would make one."""
    with socket.create_connection((LOOPBACK, server.port)) as client:
        client.sendall(b"PUT /media/empty HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert int(client.recv(65536).split()[1]) >= 400
    assert server.files() == {}


def test_without_naming_nothing_is_cached(server: Printed) -> None:
    """Where the names that never change are not known, every name may."""
    text = printed(server.kind, "--root", "/srv/media")
    assert "31536000" not in text and "365 days" not in text


def test_a_whole_host_can_be_the_place_of_the_names(server: Printed, tmp_path: Path) -> None:
    """For a media server that is given as a full URL without a path."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        other = stack.enter_context(Printed(server.kind, folder))
        url = f"http://{other.label}/"
        other.configure("--host", url, RESTO_MEDIA_HOSTS=url)
        settings: dict[str, Any] = {"media_root": tmp_path / "media", "background": False}
        with Replicator(media_hosts=[url], **settings) as replicator:
            replicator.save("a/b.jpg", b"cat")
            assert other.files() == {"a/b.jpg": b"cat"}
            assert ask("GET", f"{url}a/b.jpg", source=STRANGER).data == b"cat"
            replicator.delete("a/b.jpg")
        assert ask("DELETE", f"{url}a", headers={"Depth": "infinity"}).status in (400, 403, 409)
        assert ask("PUT", f"{url}.x", b"x").status in (403, 404)


def test_the_server_in_its_usual_places_is_configured_without_options(server: Printed) -> None:
    """The media root alone is enough; it is all that has to be said."""
    text = printed(server.kind, MEDIA_ROOT="/srv/media")
    assert '"/srv/media/"' in text and "8080" in text
    assert resto("config", server.kind).stderr == (
        "resto: root: is required: give the absolute path of the folder to serve, or set MEDIA_ROOT\n"
    )
