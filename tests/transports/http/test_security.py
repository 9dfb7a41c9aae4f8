"""What hosts are shown of us and how we know them, against real servers; and that nothing of a secret gets out."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import LOCAL, LOOPBACK, Node, eventually, free_port, server_of

from resto_wsgi.demo.stock import APACHE_MODULES
from resto_wsgi.errors import ConfigError, DeliveryError, ReplicationError
from resto_wsgi.hosts import Host, parse_hosts
from resto_wsgi.master.media_root import Master
from resto_wsgi.media_server import Access, MediaServer, make_server
from resto_wsgi.media_server.http_server import Tls
from resto_wsgi.replication.fanout import Fanout, Task
from resto_wsgi.replicator import Replicator
from resto_wsgi.transports.driving import finish
from resto_wsgi.transports.http import file_digests as http_digests
from resto_wsgi.transports.http import request
from resto_wsgi.transports.http.errand import Errand
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import HttpTransport
from resto_wsgi.trust.signatures import parse_keys

PASSWORD = "correct-horse-battery-staple-0123456789"
OTHER = "another-horse-another-staple-0123456789"
BASIC = base64.b64encode(f"tom:{PASSWORD}".encode()).decode()
COMMAND = [sys.executable, "-c", "from resto_wsgi.cli import main; main()"]


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three authorities. Of the first two servers, one with another name, and a client; of the second a client.

    The third, and the server that it signed, lack what RFC 5280 asks for.
    """
    folder = tmp_path_factory.mktemp("pki")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for authority in ("ca", "stranger-ca"):
        openssl(folder, "req", "-x509", *new, "-days", "9", "-subj", f"/CN={authority}",
                "-addext", "keyUsage=critical,keyCertSign",
                "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
    (folder / "lax-ca.ext").write_text("basicConstraints=CA:TRUE\n")
    openssl(folder, "req", *new, "-subj", "/CN=lax-ca", "-keyout", "lax-ca.key", "-out", "lax-ca.csr")
    openssl(folder, "x509", "-req", "-in", "lax-ca.csr", "-signkey", "lax-ca.key", "-days", "9",
            "-extfile", "lax-ca.ext", "-out", "lax-ca.pem")  # fmt: skip
    signed = [
        ("lax", "lax-ca", "IP:127.0.0.1"),
        ("server", "ca", "IP:127.0.0.1"),
        ("elsewhere", "ca", "DNS:elsewhere.test"),
    ]
    signed += [("client", "ca", "DNS:client"), ("stranger", "stranger-ca", "DNS:stranger")]
    for name, authority, names in signed:
        identifier = "" if name == "lax" else "authorityKeyIdentifier=keyid\n"
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n{identifier}")
        openssl(folder, "req", *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                "-CAcreateserial", "-days", "9", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip
        both = folder / f"{name}-both.pem"
        both.touch(0o600)
        both.write_text((folder / f"{name}.pem").read_text() + (folder / f"{name}.key").read_text())
    return folder


@pytest.fixture
def credentials(tmp_path: Path) -> Callable[[str], str]:
    """``credentials(text)`` returns the path of a private file of these lines."""
    count = 0

    def write(text: str) -> str:
        nonlocal count
        count += 1
        path = tmp_path / f"credentials-{count}"
        path.touch(0o600)
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def transport_to() -> Iterator[Callable[..., tuple[HttpTransport, Host]]]:
    """``transport_to(url, ca_bundle=...)`` returns a transport with these files, and the host."""
    with contextlib.ExitStack() as stack:

        def make(url: str, **files: Any) -> tuple[HttpTransport, Host]:
            (host,) = parse_hosts([url], "/")
            files = {name: value if callable(value) else str(value) for name, value in files.items()}
            transport = HttpTransport(5, Security([host], **files))
            stack.callback(transport.close)
            return transport, host

        yield make


def round_trip(transport: HttpTransport, host: Host, tmp_path: Path, name: str = "a/b/cat") -> None:
    """PUT, HEAD, GET and DELETE, as replication does them."""
    content = os.urandom(100_000)
    (tmp_path / "master").write_bytes(content)
    with open(tmp_path / "master", "rb", buffering=0) as file:
        transport.put(host, name, file, len(content), 1e9)
    found = bytearray()
    assert transport.head(host, name) == len(content)
    transport.get(host, name, found.extend)
    assert bytes(found) == content
    transport.delete(host, name)
    assert transport.head(host, name) is None
    transport.probe(host)


def refused(transport: HttpTransport, host: Host, tmp_path: Path) -> DeliveryError:
    """PUT a file, which has to fail, and return how."""
    (tmp_path / "master").write_bytes(b"cat")
    with open(tmp_path / "master", "rb") as file, pytest.raises(DeliveryError) as caught:
        transport.put(host, "cat", file, 3, 1e9)
    assert "\n" not in str(caught.value)
    return caught.value


# Stock servers

PASSWORDS = f"tom:{{SHA}}{base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()}\n"


@pytest.fixture
def nginx_over_tls(tmp_path: Path, pki: Path) -> Iterator[Callable[[str], str]]:
    """``nginx_over_tls(extra)`` returns the https:// URL of a started nginx with these lines."""
    with contextlib.ExitStack() as stack:

        def start(extra: str, certificate: str = "server") -> str:
            port = free_port()
            tls = f"ssl_certificate {pki}/{certificate}.pem; ssl_certificate_key {pki}/{certificate}.key;"
            extra = f"listen {LOOPBACK}:{port} ssl; {tls} {extra}"
            stack.enter_context(server_of("nginx", tmp_path / "nginx", extra=extra))
            return f"https://{LOOPBACK}:{port}"

        yield start


@pytest.fixture
def with_password(tmp_path: Path) -> str:
    """The lines of nginx that ask for a user and a password."""
    (tmp_path / "passwords").write_text(PASSWORDS)
    return f'auth_basic media; auth_basic_user_file "{tmp_path}/passwords";'


def test_nginx_with_a_password_over_tls_of_a_private_authority(
    nginx_over_tls: Any, with_password: str, transport_to: Any, credentials: Any, pki: Path, tmp_path: Path
) -> None:
    """Every request has the password, and the certificate is verified with the bundle alone."""
    url = nginx_over_tls(with_password)
    own = credentials(f"{url} basic tom:{PASSWORD}")
    round_trip(*transport_to(url, ca_bundle=pki / "ca.pem", credentials_file=own), tmp_path)
    for files, status, reason in [
        ({}, 401, "it wants credentials; give them in the file of RESTO_CREDENTIALS_FILE"),
        ({"credentials_file": credentials(f"* basic tom:{OTHER}")}, 401, "it does not take our user and password; "),
        ({"credentials_file": credentials("* bearer x")}, 401, "it does not take our bearer token; correct it in "),
    ]:
        error = refused(*transport_to(url, ca_bundle=pki / "ca.pem", **files), tmp_path)
        assert (error.status, error.permanent) == (status, True)
        assert error.reason.startswith(f"answered {status}: {reason}")


def test_a_certificate_that_is_not_to_be_trusted_says_what_to_do(
    nginx_over_tls: Any, with_password: str, transport_to: Any, credentials: Any, pki: Path, tmp_path: Path
) -> None:
    """Of an authority that is not in the bundle, or for another name; the password is not sent."""
    url = nginx_over_tls(with_password, "elsewhere")
    own = credentials(f"* basic tom:{PASSWORD}")
    for files in ({}, {"ca_bundle": pki / "stranger-ca.pem"}):
        error = refused(*transport_to(url, credentials_file=own, **files), tmp_path)
        assert error.status is None and error.untouched
        assert error.reason.endswith("; give the authority of its certificate in RESTO_CA_BUNDLE")
    error = refused(*transport_to(url, credentials_file=own, ca_bundle=pki / "ca.pem"), tmp_path)
    assert error.untouched and error.reason.endswith("; name it in media_hosts as its certificate does")


def test_a_certificate_that_python_313_does_not_take_says_what_to_do(
    nginx_over_tls: Any, transport_to: Any, pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It verifies strictly by itself; the older ones are told to."""
    lenient = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        context = lenient(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    error = refused(*transport_to(nginx_over_tls("", "lax"), ca_bundle=pki / "lax-ca.pem"), tmp_path)
    assert error.untouched and "; make them anew, with the extensions of RFC 5280" in error.reason


@pytest.mark.parametrize(("scheme", "hint"), [("https", True), ("http", False)])
def test_a_host_that_hangs_up_may_want_a_certificate(scheme: str, hint: bool) -> None:
    """Where it speaks TLS. A real one is a matter of microseconds, and of the version of Python."""
    (host,) = parse_hosts([f"{scheme}://media.test"], "/")
    error = Errand(host, "cat", 1.0, Security([host])).broken(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert error.reason.endswith("; if it wants a certificate, look at RESTO_CLIENT_CERT") is hint


def test_nginx_that_wants_a_certificate(nginx_over_tls: Any, transport_to: Any, pki: Path, tmp_path: Path) -> None:
    """With its key in the same file or in another; without it, or with a stranger's, the error names the setting."""
    url = nginx_over_tls(f"ssl_client_certificate {pki}/ca.pem; ssl_verify_client on;")
    trusted = {"ca_bundle": pki / "ca.pem"}
    round_trip(*transport_to(url, client_cert=pki / "client-both.pem", **trusted), tmp_path)
    apart = {"client_cert": pki / "client.pem", "client_key": pki / "client.key"}
    round_trip(*transport_to(url, **apart, **trusted), tmp_path)
    error = refused(*transport_to(url, **trusted), tmp_path)
    assert error.reason == "answered 400: it may want a certificate (RESTO_CLIENT_CERT); its error log says why"
    error = refused(*transport_to(url, client_cert=pki / "stranger-both.pem", **trusted), tmp_path)
    assert error.reason == "answered 400: it may not take our certificate (RESTO_CLIENT_CERT); its error log says why"


def test_apache_with_a_password(tmp_path: Path, transport_to: Any, credentials: Any) -> None:
    """With it folders are made with MKCOL, too; on this machine it may go over http."""
    folder = tmp_path / "apache"
    folder.mkdir()
    (folder / "passwords").write_text(PASSWORDS)
    modules = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so"
        for name in ("auth_basic", "authn_core", "authn_file", "authz_user")
    )
    protected = "AuthType Basic\nAuthName media\nAuthUserFile passwords\nRequire valid-user"
    with server_of("apache", folder, extra=f"{modules}\n<Location />\n{protected}\n</Location>") as apache:
        round_trip(*transport_to(apache.url, credentials_file=credentials(f"* basic tom:{PASSWORD}")), tmp_path)
        error = refused(*transport_to(apache.url, credentials_file=credentials(f"* basic tom:{OTHER}")), tmp_path)
        assert error.reason.startswith("answered 401: it does not take our user and password")


def test_a_server_that_checks_a_bearer_token(tmp_path: Path, transport_to: Any, credentials: Any) -> None:
    """It is on every request, and on none to another host."""
    with guarded(tmp_path / "files", f"Bearer {PASSWORD}") as (url, seen):
        own = credentials(f"{url} bearer {PASSWORD}")
        round_trip(*transport_to(url, credentials_file=own), tmp_path)
        assert set(seen) == {f"Bearer {PASSWORD}"}
    with guarded(tmp_path / "other", "Bearer other") as (other, seen):
        error = refused(*transport_to(other, credentials_file=own), tmp_path)
        assert (error.status, seen) == (401, [""])


@contextlib.contextmanager
def guarded(root: Path, wanted: str) -> Iterator[tuple[str, list[str]]]:
    """Our media server behind a check of the header Authorization; gives its URL, and what was shown to it."""
    inner, seen = MediaServer(str(root), access=LOCAL), []

    def application(environ: Any, start_response: Any) -> Any:
        seen.append(environ.get("HTTP_AUTHORIZATION", ""))
        if seen[-1] == wanted:
            return inner(environ, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Length", "0")])
        return [b""]

    server = make_server(application, LOOPBACK, 0)
    server.expiration_interval, server.shutdown_timeout = 0.02, 1
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.bind_addr[1]}", seen
    finally:
        server.stop()
        thread.join()


def test_nothing_is_shown_to_where_a_redirect_leads(
    faulty: Any, transport_to: Any, credentials: Any, tmp_path: Path
) -> None:
    """It is not followed."""
    elsewhere = faulty()
    server = faulty(("redirect", 307, f"{elsewhere.url}/cat"))
    transport, host = transport_to(server.url, credentials_file=credentials(f"* bearer {PASSWORD}"))
    assert refused(transport, host, tmp_path).status == 307
    assert elsewhere.requests == []
    assert server.requests[0].headers["authorization"] == f"Bearer {PASSWORD}"


# Signatures


def keys(*secrets: str) -> Any:
    return parse_keys(" ".join(f"key-{number}:{secret}" for number, secret in enumerate(secrets)), "test")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """``node(access)`` returns our own node, started; ``tls`` has it speak that."""
    with contextlib.ExitStack() as stack:

        def start(access: Access, tls: Tls | None = None, **options: Any) -> Node:
            server = {"tls": tls} if tls else {}
            return stack.enter_context(Node(tmp_path / "files", access=access, server=server, **options))

        yield start


def judge_by(node: Node, access: Access) -> None:
    """Go on as after a restart with other options."""
    node._server.wsgi_app._access = access


def https(node: Node) -> str:
    return node.url.replace("http:", "https:")


def test_our_own_node_takes_signed_requests(node: Any, transport_to: Any, credentials: Any, tmp_path: Path) -> None:
    """Over http, folders and odd names included; unsigned ones and those by another key it does not take."""
    server = node(Access(keys=keys(PASSWORD)))
    own = credentials(f"* secret key-0:{PASSWORD}")
    for name in ("cat", "a/b/c/cat", "Zażółć/gęślą #?%+;&='()!$,*.txt"):
        round_trip(*transport_to(server.url, credentials_file=own), tmp_path, name)
    for text in (f"* secret key-0:{OTHER}", f"* secret key-9:{PASSWORD}"):
        error = refused(*transport_to(server.url, credentials_file=credentials(text)), tmp_path)
        assert error.reason == (
            "answered 401: it does not take our signature; compare the clocks, the key in the file of "
            "RESTO_CREDENTIALS_FILE with its own, and its address in media_hosts with its name"
        )
    error = refused(*transport_to(server.url), tmp_path)
    assert (error.permanent, error.reason[:33]) == (True, "answered 401: it wants credentials"[:33])


def test_our_own_node_over_tls_with_a_key_and_with_a_certificate(
    node: Any, transport_to: Any, credentials: Any, pki: Path, tmp_path: Path
) -> None:
    """Either admits; without both a PUT is refused, and the error names the certificate."""
    tls = Tls(str(pki / "server.pem"), str(pki / "server.key"), str(pki / "ca.pem"))
    server = node(Access(keys=keys(PASSWORD), certificates=True), tls)
    trusted = {"ca_bundle": pki / "ca.pem"}
    own = credentials(f"{LOOPBACK}:{server.port} secret key-0:{PASSWORD}")
    round_trip(*transport_to(https(server), credentials_file=own, **trusted), tmp_path)
    round_trip(*transport_to(https(server), client_cert=pki / "client-both.pem", **trusted), tmp_path)
    assert refused(*transport_to(https(server), **trusted), tmp_path).status == 401
    error = refused(*transport_to(https(server), client_cert=pki / "stranger-both.pem", **trusted), tmp_path)
    assert error.status is None and "RESTO_CLIENT_CERT" in error.reason


def test_a_node_that_knows_certificates_alone_names_them(
    node: Any, transport_to: Any, pki: Path, tmp_path: Path
) -> None:
    """It answers 403 to who has none."""
    tls = Tls(str(pki / "server.pem"), str(pki / "server.key"), str(pki / "ca.pem"))
    server = node(Access(certificates=True), tls)
    error = refused(*transport_to(https(server), ca_bundle=pki / "ca.pem"), tmp_path)
    assert error.reason.endswith("; or it wants a certificate (RESTO_CLIENT_CERT)")


def test_a_key_is_changed_without_a_refusal(node: Any, transport_to: Any, credentials: Any, tmp_path: Path) -> None:
    """First the servers know both keys, then the senders get the new one, then the servers forget the old one."""
    server = node(Access(keys=keys(PASSWORD, OTHER)))
    old = transport_to(server.url, credentials_file=credentials(f"* secret key-0:{PASSWORD}"))
    new = transport_to(server.url, credentials_file=credentials(f"* secret key-0:{PASSWORD}\n* secret key-1:{OTHER}"))
    round_trip(*old, tmp_path)
    round_trip(*new, tmp_path)
    round_trip(*old, tmp_path)
    judge_by(server, Access(keys=keys("never-used-any-more-never-used-any-more", OTHER)))
    round_trip(*new, tmp_path)
    assert refused(*old, tmp_path).status == 401


def test_a_sender_goes_on_with_a_new_key_of_its_file(
    node: Any, transport_to: Any, credentials: Any, tmp_path: Path, caplog: Any
) -> None:
    """Without a restart; a file that is broken, or shows nothing any more, leaves the key that there was."""
    server = node(Access(keys=keys(PASSWORD)))
    own = Path(credentials(f"* secret key-0:{PASSWORD}"))
    sender = transport_to(server.url, credentials_file=own)
    round_trip(*sender, tmp_path)
    for text in ("* secret key-0:short", "media-09 secret key-0:" + OTHER, f"* basic-over-http tom:{PASSWORD}"):
        caplog.clear()
        own.write_text(text)
        eventually(lambda: [round_trip(*sender, tmp_path), *caplog.records][1:])
        (line,) = [record.message for record in caplog.records]
        assert line.startswith("credentials_file: ") and PASSWORD not in line and OTHER not in line
    judge_by(server, Access(keys=keys("never-used-any-more-never-used-any-more", OTHER)))
    assert refused(*sender, tmp_path).status == 401
    own.write_text(f"* secret key-1:{OTHER}")
    eventually(lambda: is_taken(*sender, tmp_path))
    round_trip(*sender, tmp_path)


def test_a_sender_goes_on_with_a_new_password_of_its_file(
    nginx_over_tls: Any, with_password: str, pki: Path, transport_to: Any, credentials: Any, tmp_path: Path
) -> None:
    """It is in what every request says, on connections that are kept alive too."""
    own = Path(credentials(f"* basic tom:{OTHER}"))
    sender = transport_to(nginx_over_tls(with_password), credentials_file=own, ca_bundle=pki / "ca.pem")
    assert refused(*sender, tmp_path).status == 401
    own.write_text(f"* basic tom:{PASSWORD}")
    eventually(lambda: is_taken(*sender, tmp_path))


def is_taken(transport: HttpTransport, host: Host, tmp_path: Path) -> bool:
    with contextlib.suppress(DeliveryError):
        round_trip(transport, host, tmp_path)
        return True
    return False


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The heads of all requests that are sent from now on."""
    sent: list[bytes] = []
    original = request.request_head

    def kept(*arguments: Any) -> bytes:
        sent.append(original(*arguments))
        return sent[-1]

    monkeypatch.setattr(request, "request_head", kept)
    return sent


def test_a_request_that_was_captured_is_refused(
    node: Any, transport_to: Any, credentials: Any, tmp_path: Path, heads: list[bytes]
) -> None:
    """As it was, with another body, with another path, and to another server of the same key and another name."""
    server = node(Access(keys=keys(PASSWORD)))
    transport, host = transport_to(server.url, credentials_file=credentials(f"* secret key-0:{PASSWORD}"))
    (tmp_path / "master").write_bytes(b"cat")
    with open(tmp_path / "master", "rb") as file:
        transport.put(host, "cat", file, 3, 1e9)
    transport.delete(host, "cat")
    put, delete = heads
    assert "used before" in replayed(server, put + b"cat") and "used before" in replayed(server, delete)
    assert "not that of this request" in replayed(server, put.replace(b"/cat", b"/dog") + b"cat")
    judge_by(server, Access(keys=keys(PASSWORD), authorities=["media-02:8080"]))
    assert "not for this server" in replayed(server, put + b"cat")
    assert not (tmp_path / "files" / "cat").exists()


def replayed(server: Node, request: bytes) -> str:
    with socket.create_connection((LOOPBACK, server.port), 5) as connection:
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 401 "), reply
    return reply.decode()


def test_each_attempt_has_a_nonce_of_its_own(
    faulty: Any, transport_to: Any, credentials: Any, tmp_path: Path, heads: list[bytes]
) -> None:
    """The repeat on a connection that was closed, too, and the one after folders were made."""
    server = faulty("close_on_reuse", ("status", 409))
    transport, host = transport_to(server.url, credentials_file=credentials(f"* secret key-0:{PASSWORD}"))
    (tmp_path / "master").write_bytes(b"cat")
    with open(tmp_path / "master", "rb") as file:
        transport.put(host, "a/cat", file, 3, 1e9)
        with pytest.raises(DeliveryError):
            transport.put(host, "a/cat", file, 3, 1e9)
    # The last one asks what is in the way of the name, since its folders did not help.
    assert [head.split()[0] for head in heads] == [b"PUT", b"PUT", b"PUT", b"MKCOL", b"PUT", b"HEAD"]
    nonces = [re.search(rb'nonce="(.+?)"', head)[1] for head in heads]  # type: ignore[index]
    assert len(set(nonces)) == 6
    for head in heads:
        covered = re.search(rb"Signature-Input: resto=\((.*?)\)", head)[1]  # type: ignore[index]
        assert {b'"@method"', b'"@authority"', b'"@path"'} <= set(covered.split())
        if head.startswith(b"PUT"):
            assert {b'"content-length"', b'"repr-digest"', b'"date"'} <= set(covered.split())


def test_a_clock_that_is_wrong_is_no_final_word(node: Any, transport_to: Any, credentials: Any, tmp_path: Path) -> None:
    """Nothing is parked: when the clock is right the same delivery is made."""
    late = [-3600.0]
    server = node(Access(keys=keys(PASSWORD)), clock=lambda: __import__("time").time() + late[0])
    transport, host = transport_to(server.url, credentials_file=credentials(f"* secret key-0:{PASSWORD}"))
    error = refused(transport, host, tmp_path)
    assert (error.status, error.permanent, error.untouched) == (401, False, True)
    assert "compare the clocks" in error.reason
    late[0] = 0
    round_trip(transport, host, tmp_path)


def test_the_digest_is_computed_once_for_all_hosts(
    faulty: Any, credentials: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a file that is open, as long as nobody changes it; and for no host that is not shown a signature."""
    read: list[int] = []
    original = http_digests.Outgoing.read
    monkeypatch.setattr(http_digests.Outgoing, "read", lambda self, limit: read.append(limit) or original(self, limit))
    servers = [faulty() for _ in range(3)]
    hosts = parse_hosts([server.url for server in servers], "/")
    own = credentials("".join(f"{server.url} secret key-0:{PASSWORD}\n" for server in servers[:2]))
    transport = HttpTransport(5, Security(hosts, credentials_file=own))
    (tmp_path / "master").write_bytes(b"cat")
    hashed = lambda: read.count(http_digests.HASHED_BYTES)  # noqa: E731 - what else is read is sent
    with open(tmp_path / "master", "rb") as file:
        transport.put(hosts[2], "cat", file, 3, 1e9)
        assert hashed() == 0
        for host in hosts:
            transport.put(host, "cat", file, 3, 1e9)
        assert hashed() == 2  # a block, and the end
        (tmp_path / "master").write_bytes(b"dog")
        transport.put(hosts[0], "cat", file, 3, 1e9)
        assert hashed() == 4
    digests = [each.headers.get("repr-digest", "") for server in servers for each in server.requests]
    of = [f"sha-256=:{base64.b64encode(hashlib.sha256(each).digest()).decode()}:" for each in (b"cat", b"dog")]
    assert digests == [*of, of[0], "", ""]
    transport.close()


def test_a_save_to_many_hosts_reads_the_master_once_for_their_signatures(
    faulty: Any, credentials: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are."""
    read: list[int] = []
    original = http_digests.Outgoing.read
    monkeypatch.setattr(http_digests.Outgoing, "read", lambda self, limit: read.append(limit) or original(self, limit))
    servers = [faulty() for _ in range(12)]
    own = credentials(f"* secret key-0:{PASSWORD}")
    urls = [server.url for server in servers]
    with Replicator(
        media_root=tmp_path / "media", media_hosts=urls, credentials_file=own, background=False
    ) as replicator:
        replicator.save("cat", b"cat")
    assert read.count(http_digests.HASHED_BYTES) == 2  # a block, and the end
    puts = [seen for server in servers for seen in server.requests if seen.method == "PUT"]
    assert len(puts) == 12 and all("repr-digest" in seen.headers for seen in puts)


def test_a_large_file_is_hashed_once_and_holds_up_nobody(
    tmp_path: Path, faulty: Any, credentials: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the digest for three hosts that want signatures is computed, another host is sent a file and answers."""
    hashed: list[bool] = []
    original = http_digests.Outgoing.read
    answered = threading.Event()

    def read(self: Any, limit: int) -> bytes:
        if limit == http_digests.HASHED_BYTES:  # what else is read is sent
            hashed.append(all(hashed) and answered.wait(10))
        return original(self, limit)

    monkeypatch.setattr(http_digests.Outgoing, "read", read)
    size = 64 * http_digests.HASHED_BYTES
    (tmp_path / "master").write_bytes(os.urandom(http_digests.HASHED_BYTES) * 64)
    (tmp_path / "small").write_bytes(b"cat")
    ends: dict[tuple[str, str], DeliveryError | None] = {}

    def ended(task: Task, error: DeliveryError | None, value: object) -> None:
        ends[task.host.url, task.name] = error
        if task.name == "small":
            answered.set()

    with contextlib.ExitStack() as stack:
        access = Access(keys=keys(PASSWORD))
        nodes = [stack.enter_context(Node(tmp_path / f"files-{number}", access=access)) for number in range(3)]
        hosts = parse_hosts([*(node.url for node in nodes), faulty().url], "/")
        own = credentials("".join(f"{node.url} secret key-0:{PASSWORD}\n" for node in nodes))
        transport = HttpTransport(5, Security(hosts, credentials_file=own))
        stack.callback(transport.close)
        fanout = Fanout(transport)
        stack.callback(fanout.close)
        large = Master(stack.enter_context(open(tmp_path / "master", "rb", buffering=0)), size, 1e9, (0, 0, 0, 0))
        small = Master(stack.enter_context(open(tmp_path / "small", "rb", buffering=0)), 3, 1e9, (0, 0, 0, 0))
        tasks = [*(Task(host, "large", large) for host in hosts[:3]), Task(hosts[3], "small", small)]
        fanout.run(tasks, ended, len(tasks))
        assert ends == dict.fromkeys([(task.host.url, task.name) for task in tasks])
    assert hashed == [True] * 65  # each block, and the end
    for number in range(3):
        assert (tmp_path / f"files-{number}" / "large").read_bytes() == (tmp_path / "master").read_bytes()


def test_a_stop_that_comes_while_a_file_is_hashed_sends_nothing(
    faulty: Any, credentials: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errand ends as one that was given up, and no host has heard of it; nor where it has not yet begun to hash."""
    server = faulty()
    (host,) = parse_hosts([server.url], "/")
    transport = HttpTransport(5, Security([host], credentials_file=credentials(f"* secret key-0:{PASSWORD}")))
    size = 2 * http_digests.HASHED_BYTES
    (tmp_path / "master").write_bytes(bytes(size))
    original = http_digests.Digests.of
    for begun in (True, False):
        with open(tmp_path / "master", "rb", buffering=0) as file:
            job = transport.put_job(host, "cat", file, size, 1e9)
            job.start()
            assert job.cold

            def of(*arguments: Any, job: Any = job) -> str:
                job.interrupt()
                return original(*arguments)

            if begun:
                monkeypatch.setattr(http_digests.Digests, "of", of)
            else:
                job.interrupt()
            finish(job)
        assert job.outcome is not None and "told to stop" in job.outcome.reason
    assert not server.requests
    transport.close()


def test_a_master_that_changes_while_it_is_sent_is_not_the_hosts_fault(
    node: Any, transport_to: Any, credentials: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host refuses the digest; the delivery is made again instead of being parked."""
    server = node(Access(keys=keys(PASSWORD)))
    transport, host = transport_to(server.url, credentials_file=credentials(f"* secret key-0:{PASSWORD}"))
    original = http_digests.Digests.of

    def changed_after(self: Any, file: Any, size: int) -> str:
        digest = original(self, file, size)
        (tmp_path / "master").write_bytes(b"dog")
        return digest

    monkeypatch.setattr(http_digests.Digests, "of", changed_after)
    error = refused(transport, host, tmp_path)
    assert (error.reason, error.permanent, error.ours) == ("the master changed while it was sent", False, True)


def test_a_host_that_refuses_signatures_is_seen_in_the_status_and_not_parked(
    node: Any, credentials: Any, tmp_path: Path
) -> None:
    """As read-only, with the reason; when it takes them again all is delivered."""
    server = node(Access(keys=keys(OTHER)))
    settings = {
        "media_root": tmp_path / "media",
        "media_hosts": [server.url],
        "media_url": "/",
        "credentials_file": credentials(f"* secret key-0:{PASSWORD}"),
        "fatal_exceptions": False,
        "background": False,
    }
    with Replicator(**settings) as replicator:
        for number in range(4):
            replicator.save(f"cat-{number}", b"cat")
        status = replicator.status()
        assert (status.owed, status.parked) == (4, 0)
        assert status.hosts[0].state == "read-only" and "compare the clocks" in status.hosts[0].error
        judge_by(server, Access(keys=keys(PASSWORD)))
        assert replicator.drain(30)
        assert replicator.status().hosts[0].state == "up"
    assert (tmp_path / "files" / "cat-3").read_bytes() == b"cat"


# Files that cannot be used


def told(**files: Any) -> str:
    """Return the problem of settings with these files."""
    files = {name: str(value) for name, value in files.items()}
    with pytest.raises(ConfigError) as caught:
        Security(parse_hosts(["https://media-01"], "/"), **files)
    assert "\n" not in str(caught.value) and "horse" not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_used_are_told_at_start(pki: Path, tmp_path: Path, credentials: Any) -> None:
    """In one line that names the setting and the file."""
    missing, pipe = tmp_path / "missing", tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert told(ca_bundle=missing) == f"ca_bundle: '{missing}' cannot be read: No such file or directory"
    assert told(ca_bundle=pki / "ca.key").startswith("ca_bundle: holds no certificate of an authority in PEM")
    assert told(client_cert=missing) == f"client_cert: '{missing}' cannot be read: No such file or directory"
    assert told(client_cert=pki / "client.key").startswith("client_cert: is not a certificate with its key in PEM")
    wrong = told(client_cert=pki / "client.pem", client_key=pki / "server.key")
    assert wrong == "client_cert: is not a certificate with its key in PEM, the key not encrypted (KEY_VALUES_MISMATCH)"
    assert told(client_cert=pki / "client.pem", client_key=missing).startswith(
        f"client_key: '{missing}' cannot be read"
    )
    assert told(credentials_file=missing) == f"credentials_file: '{missing}' cannot be read: No such file or directory"
    assert told(credentials_file=pipe) == f"credentials_file: '{pipe}' is not a file"
    assert told(credentials_file=tmp_path).startswith("credentials_file: ")
    assert told(credentials_file=credentials(f"media-01 basic {PASSWORD}")).endswith("VALUE that is not user:password")
    latin = Path(credentials(""))
    latin.write_bytes(f"media-01 basic tom:ü{PASSWORD}".encode("latin-1"))
    assert told(credentials_file=latin) == f"credentials_file: '{latin}' is not in UTF-8"
    latin.write_bytes(b"#" * 1024 * 1024 + b"\n")
    assert told(credentials_file=latin).endswith("is longer than 1048576 bytes")


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(pki: Path, tmp_path: Path) -> None:
    """A server that starts has no terminal."""
    openssl(tmp_path, "ec", "-in", f"{pki}/client.key", "-aes256", "-passout", "pass:horse", "-out", "locked.key")
    (tmp_path / "locked.key").chmod(0o600)
    assert told(client_cert=pki / "client.pem", client_key=tmp_path / "locked.key").startswith(
        "client_cert: is not a certificate with its key in PEM, the key not encrypted"
    )


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o660, 0o644, 0o666, 0o640, 0o440])
@pytest.mark.parametrize("owner", [0, 1234])
def test_a_secret_that_others_may_read_is_refused(
    mode: int, owner: int, credentials: Any, pki: Path, tmp_path: Path
) -> None:
    """But root's own may be read by a group, to which the application belongs."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    own, key = Path(credentials(f"* bearer {PASSWORD}")), tmp_path / "key"
    key.write_bytes((pki / "client.key").read_bytes())
    for path in (own, key):
        os.chown(path, owner, 0)
        path.chmod(mode)
    if owner == 0 and mode in (0o640, 0o440):
        Security(credentials_file=str(own), client_cert=str(pki / "client.pem"), client_key=str(key))
        return
    assert told(credentials_file=own) == f"credentials_file: others may read or change '{own}'; chmod 600 it"
    refusal = told(client_cert=pki / "client.pem", client_key=key)
    assert refusal == f"client_key: others may read or change '{key}'; chmod 600 it"


def test_a_replicator_does_not_start_where_a_password_would_go_over_http(credentials: Any, tmp_path: Path) -> None:
    """And leaves nothing in the media root."""
    own = credentials(f"* basic tom:{PASSWORD}")
    with pytest.raises(ConfigError, match="everybody on the way to http://media-01:8080"):
        Replicator(media_root=tmp_path / "media", media_hosts=["media-01:8080"], credentials_file=own)
    assert not (tmp_path / "media").exists()


# Nothing of a secret gets out


def is_clean(*texts: str) -> None:
    for text in texts:
        for secret in (PASSWORD, BASIC, "battery"):
            assert secret not in text, text


@pytest.mark.parametrize("kind", ["basic tom:", "bearer ", "secret key-0:"])
@pytest.mark.parametrize("fault", [("status", 401), ("status", 500), "refuse", "reset", "garbage", "hang", "tls"])
def test_no_failure_shows_a_secret(
    kind: str, fault: Any, faulty: Any, credentials: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In no log of any logger, exception, traceback, repr or status, nor in the outbox, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    server = faulty("hang" if fault == "tls" else fault)
    url = server.url.replace("http:", "https:") if fault == "tls" else server.url
    settings = {
        "media_root": tmp_path / "media",
        "media_hosts": [url],
        "timeout": 0.1,
        "show_traceback": True,
        "background": False,
        "credentials_file": credentials(f"* {kind}{PASSWORD}"),
    }
    with Replicator(**settings, fatal_exceptions=False) as replicator:
        replicator.save("cat", b"cat")
        is_clean(repr(replicator.status()), repr(replicator.status("cat")), repr(replicator.settings))
        is_clean(repr(vars(replicator._transport)), repr(vars(replicator._transport._pools)))  # type: ignore[attr-defined]
        is_clean(repr(replicator._transport._pools.origin(url)))  # type: ignore[attr-defined]
    with Replicator(**settings) as replicator, pytest.raises(ReplicationError) as caught:
        replicator.save("dog", b"dog")
    for error in (caught.value, *caught.value.failures.values()):
        is_clean(str(error), repr(error), "".join(traceback.format_exception(error)), repr(vars(error)))
    assert caplog.records
    is_clean(caplog.text, *(repr(vars(record)) for record in caplog.records))
    for path in (tmp_path / "media" / ".resto").rglob("*"):
        if path.is_file():
            is_clean(path.read_bytes().decode("latin-1"))


def test_no_command_shows_a_secret(
    nginx_over_tls: Any, with_password: str, credentials: Any, pki: Path, tmp_path: Path
) -> None:
    """With the right password all of them work, with a wrong one they say so; a file that is no such is refused."""
    url = nginx_over_tls(with_password)
    wrong = credentials(f"* basic tom:{PASSWORD}x")

    def resto(*arguments: str, own: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RESTO_", "MEDIA_"))}
        ours = {"MEDIA_ROOT": f"{tmp_path}/media", "MEDIA_URL": "/", "RESTO_MEDIA_HOSTS": url, "RESTO_TIMEOUT": "2"}
        files = {"RESTO_CA_BUNDLE": f"{pki}/ca.pem", "RESTO_CREDENTIALS_FILE": own}
        result = subprocess.run(
            [*COMMAND, *arguments], env=clean | ours | files, capture_output=True, text=True, timeout=60
        )
        is_clean(result.stdout, result.stderr)
        return result

    settings = {"media_root": tmp_path / "media", "media_hosts": [url], "ca_bundle": pki / "ca.pem"}
    with Replicator(**settings, credentials_file=wrong, fatal_exceptions=False, background=False) as replicator:
        replicator.save("cat", b"cat")
    right = credentials(f"* basic tom:{PASSWORD}")
    status = resto("status", "--json", own=wrong)
    assert (status.returncode, json.loads(status.stdout)["parked"]) == (1, 1)
    assert "user and password" in json.loads(status.stdout)["hosts"][0]["error"]
    assert resto("status", "cat", own=wrong).returncode == 1
    assert resto("drain", "--parked", "--timeout", "5", own=wrong).returncode == 1
    assert resto("check", own=wrong).returncode == 1
    checked = resto("check", "--json", own=right)
    (found,) = [each for each in json.loads(checked.stdout)["hosts"][0]["findings"] if each["key"] == "credentials"]
    assert (found["verdict"], found["seen"]) == ("ok", "without credentials a PUT is answered with 401")
    assert resto("drain", "--parked", own=right).returncode == 0
    assert resto("sync", url, own=right).returncode == 0
    malformed = credentials(f"127.0.0.1 basic {PASSWORD}")
    for arguments in (["status"], ["drain"], ["check"]):
        result = resto(*arguments, own=malformed)
        assert result.returncode != 0 and "line 1 of" in result.stderr and "user:password" in result.stderr


# resto check


@pytest.mark.parametrize("over_tls", [False, True])
def test_a_check_signs_and_finds_that_others_cannot_write(
    over_tls: bool, node: Any, credentials: Any, pki: Path
) -> None:
    """Everything is tried with the signature, and a PUT without."""
    from resto_wsgi.check import Check

    tls = Tls(str(pki / "server.pem"), str(pki / "server.key")) if over_tls else None
    server = node(Access(keys=keys(PASSWORD)), tls)
    hosts = parse_hosts([https(server) if over_tls else server.url], "/")
    files = {"ca_bundle": f"{pki}/ca.pem"} if over_tls else {}
    security = Security(hosts, credentials_file=credentials(f"* secret key-0:{PASSWORD}"), **files)
    transport = HttpTransport(2, security)
    (report,) = Check(hosts, transport, 2, security=security).run()
    transport.close()
    assert report.safe and not report.left, report.findings
    (found,) = [each for each in report.findings if each.key == "credentials"]
    assert (found.verdict, found.seen) == ("ok", "without credentials a PUT is answered with 401")
    is_clean(repr(report))


@pytest.mark.parametrize("kind", ["nginx", "node"])
def test_a_check_with_a_certificate_tries_without(kind: str, nginx_over_tls: Any, node: Any, pki: Path) -> None:
    """And says what the host answered then."""
    from resto_wsgi.check import Check

    if kind == "nginx":
        url, status = nginx_over_tls(f"ssl_client_certificate {pki}/ca.pem; ssl_verify_client on;"), 400
    else:
        tls = Tls(str(pki / "server.pem"), str(pki / "server.key"), str(pki / "ca.pem"))
        url, status = https(node(Access(certificates=True), tls)), 403
    hosts = parse_hosts([url], "/")
    security = Security(hosts, ca_bundle=f"{pki}/ca.pem", client_cert=f"{pki}/client-both.pem")
    transport = HttpTransport(2, security)
    (report,) = Check(hosts, transport, 2, security=security).run()
    transport.close()
    (found,) = [each for each in report.findings if each.key == "credentials"]
    assert (found.verdict, found.seen) == ("ok", f"without credentials a PUT is answered with {status}")
    assert isinstance(security.tls(), ssl.SSLContext)
