"""nginx as `resto config` prints it for several: reads fall back to where a file is; and TLS, for each server."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from printed import LOOPBACK, STRANGER, Printed, ask, printed, printed_server, resto, user, with_tls
from servers import Node, eventually

from resto_wsgi import Replicator
from resto_wsgi.hosts import parse_hosts
from resto_wsgi.transports.http.transport import HttpTransport

BOUND = 4.0  # seconds in which every read is answered, whoever is dead

Mesh = Callable[..., "list[Printed]"]


@pytest.fixture
def mesh(stack: ExitStack) -> list[Printed]:
    """Three nginx, each of which falls back to the other two."""
    servers = [printed_server(stack) for _ in range(3)]
    labels = " ".join(server.label for server in servers)
    for server in servers:
        server.configure("--host", server.label, RESTO_MEDIA_HOSTS=labels)
    return servers


def timed(method: str, url: str, **options: Any) -> tuple[int, float]:
    began = time.monotonic()
    return ask(method, url, **options).status, time.monotonic() - began


def requests_of(server: Printed) -> list[str]:
    return (server.run / "access.log").read_text().splitlines()


def test_a_file_that_is_still_owed_is_served_all_the_same(mesh: list[Printed], tmp_path: Path) -> None:
    """A server that was away for a save answers with the file of another, to a stranger, with ranges and validators."""
    owing = mesh[1]
    owing.stop()
    settings: dict[str, Any] = {"media_root": tmp_path / "media", "background": False, "fatal_exceptions": False}
    with Replicator(media_hosts=[server.url for server in mesh], **settings) as replicator:
        stored = replicator.save("ä b/cat #?%.jpg", b"a cat", overwrite=True)
        owing.start()
        assert owing.files() == {}
        url = replicator.settings.hosts[1].url_of(stored.name)
        answer = ask("GET", url, source=STRANGER)
        assert (answer.status, answer.data, answer.headers["Content-Type"]) == (200, b"a cat", "image/jpeg")
        assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
        assert answer.headers.getlist("Cache-Control") == ["no-cache"]
        part = ask("GET", url, headers={"Range": "bytes=2-4"})
        assert (part.status, part.data) == (206, b"cat")
        assert ask("GET", url, headers={"If-None-Match": answer.headers["ETag"]}).status == 304
        assert ask("HEAD", url).headers["Content-Length"] == "5"
        assert replicator.drain(timeout=10)
        assert owing.files() == {stored.name: b"a cat"}


def test_the_application_hears_what_is_on_the_server_itself(mesh: list[Printed]) -> None:
    """Its reads, deletes and lists do not fall back: it compares servers."""
    mesh[0].put("a/cat", b"cat")
    url = f"{mesh[1].url}/a/cat"
    assert ask("GET", url).status == 200
    transport, (first, second) = HttpTransport(timeout=2), parse_hosts([each.url for each in mesh[:2]], "/")
    assert (transport.head(first, "a/cat"), transport.head(second, "a/cat")) == (3, None)
    with pytest.raises(FileNotFoundError):
        transport.get(second, "a/cat", lambda block: None)
    transport.close()
    absent = ask("GET", url, headers={"User-Agent": "resto_wsgi"}, source=STRANGER)
    assert (absent.status, absent.headers.getlist("Cache-Control")) == (404, ["no-store"]), (
        "no cache keeps that for others"
    )
    assert ask("DELETE", url, headers={"Depth": "0"}).status == 404
    assert ask("GET", f"{mesh[1].url}/a/").status == 404
    assert ask("PUT", f"{mesh[1].url}/new", b"new").status == 201
    assert mesh[0].files() == {"a/cat": b"cat"} and mesh[1].files() == {"new": b"new"}


def test_a_name_that_is_nowhere_is_asked_for_once_from_each(mesh: list[Printed]) -> None:
    """404 at once, and no request runs in circles."""
    status, took = timed("GET", f"{mesh[0].url}/nowhere", source=STRANGER)
    assert (status, took < BOUND) == (404, True)
    assert ask("GET", f"{mesh[0].url}/else").headers.getlist("Cache-Control") == ["no-store"]
    eventually(lambda: all(requests_of(server) for server in mesh))
    assert [len([line for line in requests_of(server) if "nowhere" in line]) for server in mesh] == [1, 1, 1]


def test_with_one_of_them_dead_nothing_waits(mesh: list[Printed]) -> None:
    """What the living have is served, what they have not is 404, each within its bound."""
    mesh[2].stop()
    mesh[1].put("cat", b"cat")
    for _ in range(5):
        for name, wanted in (("cat", 200), ("nowhere", 404)):
            status, took = timed("GET", f"{mesh[0].url}/{name}", source=STRANGER)
            assert (status, took < BOUND) == (wanted, True)
    mesh[1].stop()
    for _ in range(5):
        assert timed("GET", f"{mesh[0].url}/cat")[0] == 404


def test_one_that_hangs_is_left_soon(stack: ExitStack) -> None:
    """A server that takes connections and says nothing costs some seconds once, then it is left out."""
    hanging = stack.enter_context(socket.create_server((LOOPBACK, 0)))
    server, other = printed_server(stack), printed_server(stack)
    labels = f"{server.label} {LOOPBACK}:{hanging.getsockname()[1]} {other.label}"
    server.configure("--host", server.label, RESTO_MEDIA_HOSTS=labels)
    other.configure("--host", other.label, RESTO_MEDIA_HOSTS=labels)
    other.put("cat", b"cat")
    found = [timed("GET", f"{server.url}/cat") for _ in range(6)]
    assert {status for status, _ in found} == {200}
    assert len([took for _, took in found if took > 1]) <= 1 and max(took for _, took in found) < 7


def test_a_server_that_is_not_named_falls_back_to_nobody() -> None:
    """Whom it may ask is known only where it is known which one it is; and it can be left out."""
    hosts = {"MEDIA_ROOT": "/srv/media", "RESTO_MEDIA_HOSTS": "10.0.0.1:80 10.0.0.2:80"}
    assert "upstream" not in printed("nginx", **hosts)
    assert "upstream" not in printed("nginx", "--host", "10.0.0.1:80", "--no-fall-back", **hosts)
    text = printed("nginx", "--host", "10.0.0.1:80", **hosts)
    assert "server 10.0.0.2:80 " in text and "server 10.0.0.1:80 " not in text


def test_servers_with_other_urls_are_no_fall_back() -> None:
    """nginx passes a URL on as it came, so the error says who does not fit, and what to do."""
    hosts = {"MEDIA_ROOT": "/srv/media", "RESTO_MEDIA_HOSTS": "10.0.0.1:80 http://10.0.0.2/files"}
    done = resto("config", "nginx", "--host", "10.0.0.1:80", **hosts)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "'http://10.0.0.2/files'" in done.stderr and "--no-fall-back" in done.stderr


@pytest.mark.parametrize(
    "name", ["x.html", "x.xhtml", "x.xml", "x.js", "x.mjs", "x.svg", "x", "x.txt", "x.jpg", "x.pdf"]
)
def test_what_comes_from_another_server_is_taken_as_if_it_were_here(stack: ExitStack, name: str) -> None:
    """Whatever that one says of it: here our own node, which shows what browsers run."""
    server = printed_server(stack)
    with Node(server.folder / "node", inline=True) as node:
        assert ask("PUT", f"{node.url}/media/{name}", b"0123456789").status == 201
        server.configure("--host", server.label, RESTO_MEDIA_HOSTS=f"{server.label} 127.0.0.1:{node.port}")
        passed = ask("GET", f"{server.url}/{name}", source=STRANGER)
        several = ask("GET", f"{server.url}/{name}", headers={"Range": "bytes=0-1,4-5"})
        assert several.status == 206 and several.headers["Content-Type"].startswith("multipart/byteranges")
        server.put(name, b"0123456789")
        own = ask("GET", f"{server.url}/{name}", source=STRANGER)
    assert (own.status, passed.status, passed.data) == (200, 200, b"0123456789")
    headers = (
        "Content-Type",
        "Content-Disposition",
        "Content-Security-Policy",
        "X-Content-Type-Options",
        "Cache-Control",
    )
    for each in headers:
        assert passed.headers.getlist(each) == own.headers.getlist(each), each


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("head", ["Content-Length: 300000000", "Content-Length: 07", "Transfer-Encoding: chunked"])
def test_a_read_with_a_body_is_refused_before_it_is_read(stack: ExitStack, method: str, head: str) -> None:
    """Of whoever: it would lie on the disk until the other servers were asked for the file."""
    server = printed_server(stack)
    server.configure("--host", server.label, RESTO_MEDIA_HOSTS=f"{server.label} 127.0.0.1:9")
    for name in ("nowhere", "", ".hidden"):
        request = f"{method} /media/{name} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode()
        with socket.create_connection((LOOPBACK, server.port), timeout=5, source_address=(STRANGER, 0)) as client:
            client.sendall(request)
            status = client.recv(12)[9:]
        assert status == {"nowhere": b"400", "": b"403", ".hidden": b"404"}[name]
    server.put("here", b"cat")
    for length in ({}, {"Content-Length": "0"}):
        assert ask(method, f"{server.url}/here", source=STRANGER, headers=length).status == 200
    assert ask("PUT", f"{server.url}/new", b"cat").status == 201


# A tree


@pytest.fixture
def tree(stack: ExitStack, tmp_path: Path) -> dict[str, Printed]:
    """The root a, its children b and c, and d below b, as four nginx; the ports of the nodes behind them are free."""
    servers = {name: printed_server(stack) for name in "abcd"}
    text = "{a.label}({b.label}({d.label}),{c.label})".format(**servers)
    for server in servers.values():
        options = ["--tree", text, "--output", str(tmp_path / server.label), "--command", "/usr/bin/resto"]
        printed("nginx", *server.options(), *options)
        server.start((tmp_path / server.label / f"{server.label.replace(':', '_')}.nginx.conf").read_text())
    return servers


def test_a_tree_reads_what_is_further_down(tree: dict[str, Printed]) -> None:
    """A node has it, or a child of it, or a grandchild; what is nowhere is a 404, and nobody reads upwards."""
    tree["d"].put("x/deep", b"deep")
    tree["a"].put("high", b"high")
    assert ask("GET", f"{tree['a'].url}/x/deep", source=STRANGER).data == b"deep"
    assert ask("GET", f"{tree['a'].url}/x/deep", headers={"Range": "bytes=1-2"}).data == b"ee"
    assert ask("GET", f"{tree['c'].url}/x/deep").status == 404
    assert ask("GET", f"{tree['b'].url}/high").status == 404
    status, took = timed("GET", f"{tree['a'].url}/nowhere")
    assert (status, took < BOUND) == (404, True)
    tree["b"].stop()
    status, took = timed("GET", f"{tree['a'].url}/x/deep")
    assert (status, took < BOUND) == (404, True)


def test_the_writes_of_a_tree_go_to_the_node_behind(tree: dict[str, Printed]) -> None:
    """With the name as it is and the headers that matter; without the node they fail; a stranger's never get there."""
    top = tree["a"]
    assert ask("PUT", f"{top.url}/a", b"cat").status == 502
    with Node(top.root, port=top.port + 1000):
        for name in ("a%20b/%23%3F%25.jpg", "plain"):
            answer = ask("PUT", f"{top.url}/{name}", b"cat", headers={"Date": "Sat, 21 Nov 2026 10:00:00 GMT"})
            assert answer.status == 201
        assert {name: content for name, content in top.files().items() if not name.startswith(".")} == {
            "a b/#?%.jpg": b"cat",
            "plain": b"cat",
        }
        assert (top.root / "plain").stat().st_mtime == 1795255200
        assert ask("PUT", f"{top.url}/evil", b"evil", source=STRANGER).status == 403
        assert ask("DELETE", f"{top.url}/a%20b", headers={"Depth": "infinity"}).status >= 400
        assert ask("DELETE", f"{top.url}/plain").status == 204
        assert not (top.root / "plain").exists() and not (top.root / "evil").exists()


def test_a_tree_of_nodes_works_behind_nginx(tree: dict[str, Printed], stack: ExitStack) -> None:
    """What is put at the root is on each, the report says so, and the nodes' own pages are for writers alone.

    Behind nginx too, a node knows what it is called: the commands of /__readme.txt work as they are pasted.
    """
    below = {"a": "bc", "b": "d", "c": "", "d": ""}
    for name in "dcba":
        children = [tree[each].url for each in below[name]]
        stack.enter_context(Node(tree[name].root, port=tree[name].port + 1000, children=children))
    top, told = tree["a"], {"Accept": "application/json"}
    answer = ask("PUT", f"{top.url}/x/cat", b"cat", headers=told)
    assert (answer.status, len(answer.json()["nodes"])) == (201, 4)
    assert all((server.root / "x/cat").read_bytes() == b"cat" for server in tree.values())
    page = ask("GET", f"{top.url}/__missing__?limit=1", headers=told).json()
    assert (page["complete"], page["subtree"], len(page["nodes"])) == (True, 0, 3)
    for path in ("__missing__", "__index__", "__readme.txt"):
        assert ask("GET", f"{top.url}/{path}").status == 200
        assert ask("GET", f"{top.url}/{path}", source=STRANGER).status == 403
    assert sorted(each["node"] for each in answer.json()["nodes"]) == sorted(each.url[7:] for each in tree.values())
    assert b'href="./x/cat"' in ask("GET", f"{top.url}/__index__").data
    for command in ask("GET", f"{top.url}/__readme.txt").data.decode().splitlines():
        if command.startswith("curl "):
            done = subprocess.run(["bash", "-c", f"{command} --fail"], capture_output=True, text=True, timeout=30)
            assert done.returncode == 0, (command, done)
    assert ask("DELETE", f"{top.url}/x/cat", headers=told).status == 200
    assert not any((server.root / "x/cat").exists() for server in tree.values())


def test_a_tree_is_a_file_for_each_node(tmp_path: Path) -> None:
    """With the units of the nodes behind, which know their children by the URLs of their nginx."""
    text = "10.0.0.1:80(b.example:8080,[::1]:8080)"
    where = ["--tree", text, "--output", str(tmp_path), "--command", "/r"]
    done = resto("config", "nginx", "--root", "/srv/media", *where)
    assert done.returncode == 0 and "cannot resolve b.example " in done.stderr
    names = ["10.0.0.1_80", "b.example_8080", "1_8080"]
    files = [f"{name}.{kind}" for name in names for kind in ("nginx.conf", "resto-media-server.service")]
    assert done.stdout.split() == [str(tmp_path / name) for name in files]
    unit = (tmp_path / "10.0.0.1_80.resto-media-server.service").read_text()
    assert '"--listen" "127.0.0.1:1080"' in unit
    assert '"--child" "http://b.example:8080/media" "--child" "http://[::1]:8080/media"' in unit
    assert "10.0.0.1/32 1;" in (tmp_path / "1_8080.nginx.conf").read_text(), "a parent may write"


# TLS


def test_the_fall_back_verifies_certificates(stack: ExitStack, certificates: Path) -> None:
    """It goes over TLS to the name that all of them have, and not to one whose certificate bears another."""
    servers = [printed_server(stack, scheme="https") for _ in range(2)]
    urls = " ".join(server.url for server in servers)
    servers[1].put("cat", b"cat")
    trusted = {"ca_certs": str(certificates / "ca.pem")}
    for name, status in (("media.test", 200), ("other.test", 404)):
        for server in servers:
            options = ["--peer-ca", f"{server.folder}/ca.pem", "--peer-name", name]
            options += with_tls(server, certificates)
            server.configure("--host", server.url, *options, RESTO_MEDIA_HOSTS=urls)
        assert ask("GET", f"{servers[0].url}/cat", source=STRANGER, **trusted).status == status
        for server in servers:
            server.stop()


def test_a_part_is_taken_up_by_an_nginx_of_its_own(stack: ExitStack) -> None:
    """``--part`` fits into http { }, beside other servers."""
    server = printed_server(stack)
    part = printed("nginx", *server.options(), "--listen", server.label, "--part")
    who = f"user {user()};" if user() else ""
    around = "".join(f'{each}_temp_path "{server.run}/{each}";' for each in ("proxy", "fastcgi", "uwsgi", "scgi"))
    log = f'pid "{server.run}/pid"; error_log "{server.run}/log";'
    server.start(f"{who} {log} events {{}}\nhttp {{ access_log off; {around}\n{part}\n}}\n")
    assert ask("PUT", f"{server.url}/a/b", b"cat").status == 201
    assert json.loads(ask("GET", f"{server.url}/").data)[0]["name"] == "a"
