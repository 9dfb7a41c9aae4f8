"""Who may write: addresses, signatures, certificates; each alone, over real connections, and against an attacker."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import urllib3
from node_requests import ask, ask_over_tls, files
from servers import LOCAL, LOOPBACK, Node
from signing import FAR, KEY, NEXT, put_signed, send, signed

from resto_wsgi.errors import ConfigError
from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.trust.signatures import Key

# Addresses


@pytest.mark.parametrize("method", ["PUT", "DELETE", "MKCOL", "GET"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", FAR, ""])
def test_nobody_may_do_more_than_read_where_nothing_says_who(root: Path, method: str, address: str) -> None:
    """Not this machine either, whose proxy need not show that it is one. Files are public all the same."""
    app = MediaServer(root)
    (root / "old").write_bytes(b"old")
    path = {"GET": "/", "DELETE": "/old"}.get(method, "/new")
    reply = ask(app, method, path, b"x" if method == "PUT" else None, REMOTE_ADDR=address)
    assert (reply.status_code, b"--allow" in reply.body) == (403, True)
    for page in ("/__missing__", "/__index__", "/__readme.txt"):
        assert ask(app, "GET", page, REMOTE_ADDR=address).status_code == 403
    assert ask(app, "GET", "/old", REMOTE_ADDR=address).body == b"old"
    assert files(root) == {"old": b"old"} and not (root / "new").exists()


@pytest.mark.parametrize("version", ["", "proxy_http_version 1.1;"])
def test_a_proxy_that_says_nothing_of_itself_admits_nobody(root: Path, media_servers: Any, version: str) -> None:
    """As nginx is: HTTP/1.1 is what it speaks by default since 1.29.7. Where this machine is allowed, its proxy is."""
    extra = f"location /media/ {{ {version} proxy_pass http://127.0.0.1:{{}}/; }}"
    with Node(root, access=Access()) as node:
        (nginx,) = media_servers("nginx", extra=extra.replace("{}", str(node.port)).replace("{{", "{"))
        assert urllib3.request("PUT", f"{nginx.url}/media/x", body=b"x").status == 403
        assert urllib3.request("GET", f"{nginx.url}/media/").status == 403
        assert files(root) == {}
        (root / "x").write_bytes(b"x")
        assert urllib3.request("GET", f"{nginx.url}/media/x").data == b"x"
    with Node(root, port=node.port) as node:
        assert urllib3.request("PUT", f"{nginx.url}/media/y", body=b"y").status == 201


@pytest.mark.parametrize("means", [{"keys": [KEY]}, {"certificates": True}])
def test_this_machine_may_write_only_where_that_was_said(root: Path, means: Any) -> None:
    """A proxy in front would else let everybody in."""
    app = MediaServer(root, access=Access(**means))
    assert ask(app, "PUT", "/x", b"x").status_code in (401, 403)
    app = MediaServer(root, access=Access(["127.0.0.0/8"], **means))
    assert ask(app, "PUT", "/x", b"x").status_code == 201


@pytest.mark.parametrize(
    "networks",
    [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["10.0.0.0/8", "2000::/3"], ["::/1", "8000::/1"]],
)
def test_everybody_has_to_be_meant(networks: list[str]) -> None:
    """However it is spelled."""
    with pytest.raises(ConfigError, match=r"^allow: .*--allow-anyone"):
        Access(networks)
    Access(networks, anyone=True)


def test_anyone_may_write_where_that_is_said(root: Path) -> None:
    """From anywhere, with nothing."""
    app = MediaServer(root, access=Access(anyone=True))
    assert ask(app, "PUT", "/x", b"x", REMOTE_ADDR=FAR).status_code == 201


# Pages in a browser on a machine that may write

ADDRESSES: list[Any] = [["127.0.0.1"], ["127.0.0.0/8", "10.0.0.0/8"]]


@pytest.mark.parametrize("networks", ADDRESSES)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "MKCOL"])
@pytest.mark.parametrize(
    "header",
    [
        {"HTTP_ORIGIN": "http://evil.example"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": "http://localhost:80"},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-origin"},
    ],
)
def test_no_page_writes_because_of_the_address_of_its_browser(
    root: Path, networks: Any, method: str, header: dict[str, str]
) -> None:
    """Of whatever site: after a rebinding of DNS the browser takes a stranger's page for one of ours."""
    app = MediaServer(root, access=Access(networks))
    (root / "old").write_bytes(b"old")
    reply = ask(app, method, "/new" if method != "DELETE" else "/old", b"x" if method == "PUT" else None, **header)
    assert (reply.status_code, reply.body.count(b"\n")) == (403, 1)
    assert b"browser" in reply.body
    assert files(root) == {"old": b"old"} and not (root / "new").exists()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "[", "x:y"]
)
def test_this_machine_calls_the_server_by_no_name_of_a_stranger(root: Path, host: str) -> None:
    """Whose page could else, by a rebinding of DNS, read what is for writers; files stay public."""
    app = MediaServer(root, access=LOCAL)
    (root / "file").write_bytes(b"x")
    for path in ("/", "/__index__", "/__missing__", "/__readme.txt"):
        reply = ask(app, "GET", path, HTTP_HOST=host)
        assert (reply.status_code, b"--name" in reply.body) == (403, True)
    assert ask(app, "DELETE", "/file", HTTP_HOST=host, HTTP_ORIGIN=f"http://{host}").status_code == 403
    assert files(root) == {"file": b"x"}
    assert ask(app, "GET", "/file", HTTP_HOST=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [None, "", "localhost", "LOCALHOST:8080", "localhost.", "a.localhost", "127.0.0.1:8080", "[::1]:8080", "10.0.0.1",
     socket.gethostname(), "media-01.example:80", "Media-02.example"],
)  # fmt: skip
def test_this_machine_calls_the_server_by_its_own_names(root: Path, host: str | None) -> None:
    """By an address, as localhost, by the name of the machine, and by the names that it was told."""
    access = Access(["127.0.0.1"], authorities=["media-01.example:8080", "media-02.example"])
    assert ask(MediaServer(root, access=access), "GET", "/", HTTP_HOST=host).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.9"])
def test_a_writer_may_use_any_name(root: Path, address: str) -> None:
    """That of media_hosts, or the public one that a proxy on this machine passes on."""
    app = MediaServer(root, access=Access(["127.0.0.0/8", "10.0.0.0/8"]))
    assert ask(app, "PUT", "/x", b"x", HTTP_HOST="media1.internal:8080", REMOTE_ADDR=address).status_code == 201


def test_a_page_may_show_more_than_an_address(root: Path) -> None:
    """A signature admits it, and so does a certificate; and everybody is everybody. It may read what is for writers."""
    page = {"HTTP_ORIGIN": "http://app.example", "HTTP_SEC_FETCH_SITE": "same-site"}
    app = MediaServer(root, access=Access(["127.0.0.0/8"], keys=[KEY]))
    headers = signed("PUT", "http://media-01/x", b"x")
    local = {**page, "REMOTE_ADDR": "127.0.0.1"}
    assert send(app, "PUT", "/x", b"x", {"Content-Length": "1"}, **local).status_code == 403
    assert send(app, "PUT", "/x", b"x", headers, **local).status_code == 201
    assert ask(app, "GET", "/", **page).status_code == 200
    app = MediaServer(root, access=Access(["127.0.0.0/8"], certificates=True))
    assert ask(app, "PUT", "/y", b"y", SSL_CLIENT_VERIFY="SUCCESS", **page).status_code == 201
    assert ask(MediaServer(root, access=Access(anyone=True)), "PUT", "/z", b"z", **page).status_code == 201


def test_a_rebound_name_is_refused_over_the_wire(root: Path) -> None:
    """With what a browser really sends, through a real server."""
    with Node(root) as node:
        connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=5)
        with contextlib.closing(connection):
            evil = f"evil.example:{node.port}"
            for headers in (
                {"Host": evil, "Origin": f"http://{evil}"},
                {"Origin": "http://evil.example"},
            ):
                connection.request("PUT", "/x", b"x", headers)
                reply = connection.getresponse()
                reply.read()
                assert reply.status == 403
            connection.request("GET", "/", headers={"Host": evil})
            reply = connection.getresponse()
            assert (reply.status, b"--name" in reply.read()) == (403, True)
            connection.request("PUT", "/x", b"x")
            assert connection.getresponse().status == 201


# Signatures


def test_who_signs_may_write(keyed: MediaServer, root: Path) -> None:
    """PUT, DELETE and a listing, with either key, from anywhere."""
    assert put_signed(keyed) == 201
    assert put_signed(keyed, b"y", key=NEXT) == 204
    assert files(root, ".resto/signatures") == {"x": b"y"}
    listed = signed("GET", "http://media-01/?limit=1")
    assert send(keyed, "GET", "/", b"", listed, QUERY_STRING="limit=1").status_code == 200
    assert send(keyed, "DELETE", "/x", b"", signed("DELETE", "http://media-01/x")).status_code == 204
    assert files(root, ".resto/signatures") == {}


def test_who_does_not_sign_is_told_how(keyed: MediaServer, root: Path) -> None:
    """401 with what is wanted (RFC 9421, section 5.1), before the body is looked at; reads stay public."""
    reply = send(keyed, "PUT", "/x", b"x", {"Content-Length": "1"})
    assert reply.status_code == 401
    assert "repr-digest" in reply.headers["Accept-Signature"] and reply.headers["WWW-Authenticate"]
    assert send(keyed, "GET", "/", b"", {}).status_code == 401
    assert send(keyed, "GET", "/x", b"", {}).status_code == 404
    assert files(root) == {}


@pytest.mark.parametrize(
    ("change", "content"),
    [
        ({"HTTP_DATE": "Tue, 03 Nov 2026 10:20:30 GMT"}, b"x"),
        ({"HTTP_RESTO_GENERATION": "999"}, b"x"),
        ({"HTTP_IF_NONE_MATCH": "*"}, b"x"),
        ({"HTTP_HOST": "media-02"}, b"x"),
        ({"PATH_INFO": "/y"}, b"x"),
        ({"SCRIPT_NAME": "/y"}, b"x"),
        ({"QUERY_STRING": "y"}, b"x"),
        ({"REQUEST_METHOD": "DELETE"}, b""),
        ({"CONTENT_LENGTH": "2"}, b"xx"),
    ],
)
def test_a_request_that_was_changed_on_the_way_is_refused(
    keyed: MediaServer, root: Path, change: dict[str, str], content: bytes
) -> None:
    """401, and nothing is written."""
    headers = signed("PUT", "http://media-01/x", b"x")
    assert send(keyed, "PUT", "/x", content, headers, **change).status_code == 401
    assert files(root, ".resto/signatures") == {}


def test_no_delete_becomes_that_of_a_folder_on_the_way(keyed: MediaServer, root: Path) -> None:
    """By a header that nobody signed."""
    (root / "folder").mkdir()
    headers = signed("DELETE", "http://media-01/folder/")
    assert send(keyed, "DELETE", "/folder/", b"", {**headers, "Depth": "infinity"}).status_code == 401
    assert (root / "folder").is_dir()
    headers = signed("DELETE", "http://media-01/folder/", headers={"Depth": "infinity"})
    assert send(keyed, "DELETE", "/folder/", b"", headers).status_code == 204


def test_another_body_of_the_same_length_is_refused(keyed: MediaServer, root: Path) -> None:
    """The signature covers the digest, and the digest the body."""
    headers = signed("PUT", "http://media-01/x", b"x")
    assert send(keyed, "PUT", "/x", b"y", headers).status_code == 400
    assert files(root, ".resto/signatures") == {}


@pytest.mark.parametrize("digest", ["sha-512=:AAAA:", "sha-256=:AAAA:", "x"])
def test_a_digest_that_nobody_compares_is_not_enough(keyed: MediaServer, root: Path, digest: str) -> None:
    """It would leave the body to whoever is on the way."""
    assert put_signed(keyed, headers={"Repr-Digest": digest}) == 401
    assert files(root) == {}


def test_a_request_for_another_server_is_refused(root: Path) -> None:
    """Where the server was told its names: servers may share a key."""
    app = MediaServer(root, access=Access(keys=[KEY], authorities=["media-01", "Media-01:8080"]))
    assert put_signed(app) == 201
    headers = signed("PUT", "http://media-02/x", b"y")
    assert send(app, "PUT", "/x", b"y", headers, HTTP_HOST="media-02").status_code == 401
    headers = signed("PUT", "http://media-01:8080/x", b"y")
    assert send(app, "PUT", "/x", b"y", headers, HTTP_HOST="MEDIA-01:8080").status_code == 204


@pytest.mark.parametrize("name", ["https://media-01:8443", "media-01/", "media-01:x", "", "[::1", "::1"])
def test_a_name_is_a_host_and_a_port(name: str) -> None:
    """Any other would have every signed request refused, and make a Host header that is none one of ours."""
    with pytest.raises(ConfigError, match=r"^name: takes HOST:PORT"):
        Access(keys=[KEY], authorities=[name])
    Access(keys=[KEY], authorities=["media-01", "[::1]:8443", "10.0.0.1:80"])


@pytest.mark.parametrize(("scheme", "port", "status"), [("https", 443, 201), ("http", 80, 201), ("http", 443, 401)])
def test_a_name_may_have_the_port_of_its_scheme(root: Path, scheme: str, port: int, status: int) -> None:
    """Which a sender leaves out, and its signature too."""
    app = MediaServer(root, access=Access(keys=[KEY], authorities=[f"media-01:{port}"]))
    headers = signed("PUT", f"{scheme}://media-01/x", b"x")
    assert send(app, "PUT", "/x", b"x", headers, **{"wsgi.url_scheme": scheme}).status_code == status


def test_a_signature_travels_over_the_wire(root: Path) -> None:
    """With a name that has to be encoded, in a folder of the URL, through a real client and a real server."""
    with Node(root, access=Access(keys=[KEY])) as node:
        path, content = "/media/a%20b/caf%C3%A9+(1)'.txt", b"hello"
        headers = signed("PUT", f"{node.url}{path}", content, headers={"Resto-Generation": "1"})
        connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=5)
        with contextlib.closing(connection):
            for status in (201, 401):
                connection.request("PUT", path, content, headers)
                reply = connection.getresponse()
                reply.read()
                assert reply.status == status
    assert files(root, ".resto/signatures") == {"media/a b/caf\u00e9+(1)'.txt": content}


def test_no_answer_shows_a_secret(keyed: MediaServer) -> None:
    """Nor the signature that would have been right."""
    errors = io.StringIO()
    headers = signed("PUT", "http://media-01/x", b"x", key=Key("app-1", b"x" * 40))
    right = signed("PUT", "http://media-01/x", b"x")["Signature"].split(":")[1]
    reply = send(keyed, "PUT", "/x", b"x", headers, **{"wsgi.errors": errors})
    shown = f"{reply.headers} {reply.body!r} {errors.getvalue()}"
    assert "horse" not in shown and right not in shown


# Certificates


def test_who_has_a_certificate_may_write(tls_node: Node, pki: Path, root: Path) -> None:
    """Of the authority that was given; who has none may read, and who has another gets no connection."""
    assert ask_over_tls(tls_node, pki, "PUT", "client", b"x" * 100_000) == 201
    assert ask_over_tls(tls_node, pki, "GET") == 200
    assert ask_over_tls(tls_node, pki, "PUT", None, b"y") == 403
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        ask_over_tls(tls_node, pki, "PUT", "stranger", b"y")
    assert files(root) == {"x": b"x" * 100_000}


# Networks that are given


@pytest.mark.parametrize("address", ["10.0.0.1", "::2", "192.168.1.1", "", "unix:", "127.0.0.1, 10.0.0.1", None])
def test_others_can_only_read(app: MediaServer, root: Path, address: str | None) -> None:
    """An address outside the networks is refused with 403 before its name or body is looked at, and may read."""
    (root / "x").write_bytes(b"x")
    assert ask(app, "PUT", "/y", b"y", REMOTE_ADDR=address).status_code == 403
    assert ask(app, "DELETE", "/x", REMOTE_ADDR=address).status_code == 403
    assert ask(app, "GET", "/x", REMOTE_ADDR=address).body == b"x"
    assert files(root) == {"x": b"x"}


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::7", "::ffff:10.1.2.3"])
def test_the_given_networks_may_write(root: Path, address: str) -> None:
    """``networks`` replace the default; an IPv4 address that comes in over IPv6 counts as itself."""
    app = MediaServer(root, access=Access(["10.0.0.0/8", "fd00::/8"]))
    assert ask(app, "PUT", "/x", b"x", REMOTE_ADDR=address).status_code == 201
    assert ask(app, "PUT", "/x", b"x").status_code == 403


def test_a_network_that_is_none_is_an_error() -> None:
    """At start, not at the first request."""
    with pytest.raises(ConfigError, match=r"^allow: takes a network such as .*, not '10\.0\.0/8'$"):
        Access(["10.0.0/8"])
