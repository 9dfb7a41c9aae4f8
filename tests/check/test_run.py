"""What the probes find: on real servers as they should be and as they are often set up, and on ones that lie."""

from __future__ import annotations

import errno
import itertools
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_server import MIB, Memory, tree
from servers import Node, eventually

from resto_wsgi.check import Check, Finding, Report, wire
from resto_wsgi.check.reach import tls
from resto_wsgi.check.sizes import human, size
from resto_wsgi.check.subject import FOLDER, Subject
from resto_wsgi.check.wire import Tls, Wire
from resto_wsgi.hosts import parse_hosts
from resto_wsgi.media_server import Access
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import HttpTransport
from resto_wsgi.trust.signatures import Key

WELL = {  # what the remedies say, put into the configurations
    "nginx": "add_header X-Content-Type-Options nosniff; add_header Content-Security-Policy sandbox;"
    'location ~ "/\\." { return 404; }',
    "lighttpd": 'server.modules += ("mod_access", "mod_setenv")\n$HTTP["url"] =~ "/\\." { url.access-deny = ("") }\n'
    'setenv.add-response-header = ("X-Content-Type-Options" => "nosniff")\n'
    'setenv.add-response-header += ("Content-Security-Policy" => "sandbox")',
    "apache": "LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so\n"
    "Header set X-Content-Type-Options nosniff\nHeader set Content-Security-Policy sandbox\n"
    '<LocationMatch "/\\.">\nRequire all denied\n</LocationMatch>',
    "node": "",
}
WARNED = {"nginx": {"tree"}, "lighttpd": {"tree", "mtime"}, "apache": {"tree", "mtime"}, "node": set()}


@pytest.fixture
def check() -> Iterator[Callable[..., list[Report]]]:
    """``check(server, ...)`` returns a report for each server, or URL."""
    transports = []

    def check(*servers: Any, timeout: float = 2.0, **more: Any) -> list[Report]:
        transports.append(HttpTransport(timeout))
        return made(transports[-1], *servers, timeout=timeout, **more).run()

    yield check
    for transport in transports:
        transport.close()


def made(transport: HttpTransport, *servers: Any, timeout: float = 2.0, **more: Any) -> Check:
    hosts = parse_hosts([each if isinstance(each, str) else each.url for each in servers], "/")
    return Check(hosts, transport, timeout, **more)


def verdicts(report: Report) -> dict[str, str]:
    return {finding.key: finding.verdict for finding in report.findings}


def the(report: Report, key: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.key == key]
    return found


def unsafe(report: Report) -> set[str]:
    return {key for key, verdict in verdicts(report).items() if verdict == "unsafe"}


# Servers as they should be


@pytest.mark.parametrize("kind", WELL)
def test_a_server_that_is_set_up_well_is_safe(kind: str, media_servers: Any, check: Any) -> None:
    """With the lines that the remedies name, nothing is left to warn of but what that server cannot do else."""
    (server,) = media_servers(kind, **({"extra": WELL[kind]} if WELL[kind] else {}))
    Path(server.root, "kept.jpg").write_bytes(b"kept")
    (report,) = check(server)
    found = verdicts(report)
    assert {key for key, verdict in found.items() if verdict == "warning"} == WARNED[kind], report.findings
    assert unsafe(report) == set() and report.safe and not report.untested and not report.left
    assert report.kind == kind
    assert tree(server.root) == [os.path.join(server.root, "kept.jpg")]
    assert {key for key, verdict in found.items() if verdict == "unknown"} <= {"credentials", "temporary"}
    assert all(finding.remedy for finding in report.findings if finding.verdict != "ok")


def test_a_server_is_checked_below_the_path_that_names_hang_below(nginx: Any, check: Any) -> None:
    """And nothing is written or removed beside it."""
    Path(nginx.root, "media").mkdir()
    (report,) = check(f"{nginx.url}/media")
    assert report.safe
    assert tree(nginx.root) == [os.path.join(nginx.root, "media")]


def test_a_server_that_hides_its_name_is_known_by_its_pages(media_servers: Any, check: Any) -> None:
    """So that the remedies fit."""
    (server,) = media_servers("lighttpd", extra='server.tag = "hidden"')
    assert check(server)[0].kind == "lighttpd"


# Real servers with the configurations that go wrong


FAULTS = [
    ("nginx", {"full_put_path": False}, "parents", "500", "create_full_put_path on;"),
    ("nginx", {"max_body": MIB}, "size", "1 MiB", "client_max_body_size"),
    ("lighttpd", {"max_body": MIB}, "size", "1 MiB", "server.max-request-size"),
    ("apache", {"max_body": MIB}, "size", "1 MiB", "LimitRequestBody"),
    ("nginx", {"extra": "location / { dav_methods off; }"}, "write", "405", "dav_methods PUT DELETE;"),
    ("nginx", {"extra": "location / { limit_except GET { deny all; } }"}, "write", "403", "allow 127.0.0.1;"),
    ("lighttpd", {"extra": '$HTTP["url"] =~ "/" { webdav.is-readonly = "enable" }'}, "write", "403", "is-readonly"),
    ("lighttpd", {"extra": '$HTTP["url"] =~ "/" { webdav.activate = "disable" }'}, "write", "40", "webdav.activate"),
    (
        "apache",
        {"extra": "<Location />\n<LimitExcept GET>\nRequire all denied\n</LimitExcept>\n</Location>"},
        "write",
        "403",
        "Require ip 127.0.0.1",
    ),
    ("node", {"access": Access(["192.0.2.0/24"])}, "write", "403", "--allow 127.0.0.1"),
    ("nginx", {"extra": "location / { dav_methods PUT MKCOL; }"}, "delete", "405", "dav_methods PUT DELETE;"),
    ("nginx", {"extra": "location / { return 301 http://elsewhere.test/; }"}, "reachable", "elsewhere", "final URL"),
    (
        "nginx",
        {"extra": "location /.resto/ { return 200 x; }"},
        "hidden",
        "everybody",
        'location ~ "/\\." { return 404; }',
    ),
    (
        "nginx",
        {"extra": "location ~ shtml$ { ssi on; ssi_types *; }"},
        "scripts",
        "include.shtml",
        "location ^~ /media/",
    ),
    (
        "nginx",
        {"extra": 'location ~ php$ { if ($request_method = GET) { return 200 "42"; } }'},
        "scripts",
        "php",
        "php",
    ),
    ("apache", {"extra": "AddEncoding x-gzip .gz"}, "encoded", "packed.gz", "RemoveEncoding .gz"),
]


@pytest.mark.parametrize(("kind", "options", "key", "seen", "cure"), FAULTS)
def test_a_fault_is_found_on_a_real_server_and_its_remedy_named(
    kind: str, options: Any, key: str, seen: str, cure: str, media_servers: Any, check: Any
) -> None:
    """It is unsafe, it is the only one, and it is the line of that server that is named."""
    (server,) = media_servers(kind, **options)
    (report,) = check(server)
    assert not report.safe and unsafe(report) == {key}, report.findings
    found = the(report, key)
    assert seen in found.seen and cure in found.remedy, found
    if key != "delete":
        assert tree(server.root) == [] and not report.left


WEAK = [
    ("nginx", "autoindex on;", "listing", "autoindex off;"),
    ("nginx", "max_ranges 0;", "range", "max_ranges"),
    ("nginx", "etag off; if_modified_since off;", "conditional", "etag on;"),
]


@pytest.mark.parametrize(("kind", "extra", "key", "cure"), WEAK)
def test_what_is_no_danger_is_a_warning(
    kind: str, extra: str, key: str, cure: str, media_servers: Any, check: Any
) -> None:
    """Replication stays safe."""
    (server,) = media_servers(kind, extra=extra)
    (report,) = check(server)
    assert report.safe and the(report, key).verdict == "warning"
    assert cure in the(report, key).remedy


def test_a_listing_in_json_is_of_use(media_servers: Any, check: Any) -> None:
    """It is no fault."""
    (server,) = media_servers("nginx", extra="autoindex on; autoindex_format json;")
    assert the(check(server)[0], "listing").seen.startswith("JSON")


def test_a_root_that_is_not_writable_is_found(apache: Any, check: Any) -> None:
    """The remedy says whose it has to be."""
    if os.geteuid():
        pytest.skip("needs two users")
    os.chown(apache.root, 0, 0)
    os.chmod(apache.root, 0o755)
    (report,) = check(apache)
    assert unsafe(report) == {"write"} and re.search("403|500", the(report, "write").seen)
    assert "chown -R www-data" in the(report, "write").remedy
    assert tree(apache.root) == [] and not report.left


def test_a_delete_that_is_refused_leaves_what_is_said_to_be_left(media_servers: Any, check: Any) -> None:
    """Nothing more is written once it is known, and each path is named."""
    (server,) = media_servers("nginx", extra="location / { dav_methods PUT MKCOL; }")
    (report,) = check(server)
    left = [os.path.relpath(each, server.root) for each in tree(server.root)]
    assert left == [report.folder, *(f"{report.folder}/{name}.jpg" for name in ("ahead", "first", "gone"))]
    assert set(report.left) == {*left[1:], f"{report.folder}/ (the folder)"}
    assert the(report, "left").verdict == "warning" and report.folder in the(report, "left").seen


def test_a_server_that_goes_away_is_said_to_have_something_left(media_servers: Any, check: Any) -> None:
    """The folder is named; the check ends soon, and is not safe."""
    (server,) = media_servers("nginx")

    def kill() -> None:
        eventually(lambda: len(tree(server.root)) > 4)
        server.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    (report,) = check(server)
    thread.join()
    assert not report.safe and report.untested
    assert any("went away" in finding.seen for finding in report.findings)
    assert report.left == (f"{report.folder}/ and what is in it",)
    assert report.folder in tree(server.root)[0]


# Servers that are none, or that lie: no real one can be made to


@pytest.mark.parametrize(
    ("behaviour", "seen"),
    [
        ("refuse", "refused"),
        ("hang", "no answer within 0.3 s"),
        ("garbage", "no HTTP"),
        ("reset", "broke"),
        ("endless_headers", "no HTTP|no answer"),
        ("drip", "no answer"),
        (("redirect", 302, "http://x\x1b[31m/"), r"302, to 'http://x\\x1b"),
    ],
)
def test_what_is_no_web_server_is_found_in_bounded_time(behaviour: Any, seen: str, faulty: Any, check: Any) -> None:
    """Nothing was written, and nothing it sends comes through unquoted."""
    began = time.monotonic()
    (report,) = check(faulty(behaviour), timeout=0.3)
    assert time.monotonic() - began < 5
    assert unsafe(report) == {"reachable"} and re.search(seen, the(report, "reachable").seen)
    assert the(report, "reachable").seen.isprintable() and the(report, "reachable").remedy
    assert report.untested and not report.left


@pytest.mark.parametrize("behaviour", ["endless", "gzip_bomb", ("status", 200, {}, b"hello"), ("status", 201)])
def test_an_answer_to_everything_is_unsafe(behaviour: Any, faulty: Any, check: Any) -> None:
    """A web application that answers each PUT with success and keeps nothing is no media server."""
    (report,) = check(faulty(behaviour), timeout=0.3)
    assert {"absent", "write"} & unsafe(report) and not report.safe


@pytest.mark.parametrize(
    ("status", "remedy"), [(507, "free space"), (401, "credentials"), (413, "limit"), (403, "allow")]
)
def test_a_refusal_has_the_remedy_of_its_status(status: int, remedy: str, faulty: Any, check: Any) -> None:
    """On a server that nobody knows, too."""

    def answer(connection: Any, reader: Any) -> None:
        while seen := server.read_request(reader):
            code = status if seen.method in ("PUT", "MKCOL") else 404
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % code)

    server = faulty(answer)
    (report,) = check(server)
    assert unsafe(report) == {"write"} and remedy in the(report, "write").remedy
    assert not report.left


@pytest.mark.parametrize(
    ("fault", "keys", "seen"),
    [
        ("", set(), ""),
        ("other", {"write"}, "other bytes"),
        ("stale", {"delete"}, "still read"),
        ("no absent", {"delete"}, "not there"),
        ("tree", {"folder"}, "with a slash"),
        ("truncated", {"truncated"}, "broke off"),
        ("torn", {"atomic"}, "of its"),
        ("mixed", {"atomic"}, "parts of two versions"),
        ("vanishing", {"atomic"}, "did not find it"),
        ("once", {"overwrite", "folder", "atomic"}, "405"),
        ("deep", {"parents", "folder", "longest", "characters", "scripts"}, "500"),
        ("lies", {"write"}, "cut short|nothing came"),
        ("case", {"case"}, "one file"),
        ("decodes", {"characters"}, "aAb"),
        ("odd", {"characters"}, r"\?"),
        ("short names", {"longest"}, "it holds 100 bytes"),
        ("range", {"range"}, "206"),
        ("large", {"transfer"}, "507"),
    ],
)
def test_a_server_that_does_not_keep_to_it_is_unsafe(fault: str, keys: set[str], seen: str, check: Any) -> None:
    """Each fault is found, and no other."""
    with Memory(fault) as server:
        (report,) = check(server, timeout=0.5 if fault == "lies" else 2.0)  # for what never comes
    assert unsafe(report) == keys, report.findings
    for key in keys:
        assert re.search(seen, the(report, key).seen)
        assert the(report, key).remedy
    assert report.safe is not bool(keys)
    assert server.files == {}
    assert bool(report.left) is (fault in ("stale", "no absent"))  # where it says so, or does not say that it is gone


def test_what_is_done_late_is_taken_away_too(check: Any) -> None:
    """A PUT that was given up, and that the server carried out after it had been deleted."""
    with Memory("late") as server:
        (report,) = check(server, timeout=0.3)
        assert the(report, "mtime").verdict == "unknown" and report.safe
        assert server.files == {} and not report.left


def test_a_check_that_takes_too_long_ends(nginx: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not safe, since not all was tested, and leaves nothing."""
    monkeypatch.setattr("resto_wsgi.check.run.LONGEST", 0.01)
    (report,) = check(nginx)
    assert "not done within" in report.findings[-1].seen and "--timeout" in report.findings[-1].remedy
    assert report.untested and not report.safe and tree(nginx.root) == []


@pytest.mark.parametrize(
    ("answer", "verdict", "seen"),
    [(b"", "unknown", "no answer"), (b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n", "unsafe", "403")],
)
def test_a_size_that_cannot_be_asked_for_is_said(
    answer: bytes, verdict: str, seen: str, faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expect: 100-continue is not understood everywhere, and something else than the size can be in the way."""

    def silent(connection: Any, reader: Any) -> None:
        server.read_request(reader, body=False)
        connection.sendall(answer)
        server.stopped.wait(1)

    server = faulty(silent)
    (host,) = parse_hosts([server.url], "/")
    transport = HttpTransport(0.3)
    (found,) = size(Subject(host, transport, 0.3, threading.Event(), largest=MIB))
    assert (found.verdict, found.key) == (verdict, "size") and seen in found.seen and found.remedy


def test_a_slow_line_is_warned_of(nginx: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a transfer is given up for it."""
    monkeypatch.setattr("resto_wsgi.check.sizes.SLOWEST", 1024**5)
    found = the(check(nginx)[0], "transfer")
    assert found.verdict == "warning" and "limit_rate" in found.remedy


def test_a_cache_in_front_is_found_when_a_file_is_replaced(check: Any) -> None:
    """Where it lets DELETE through but goes on to answer with what it had before a PUT."""

    class Cached(Memory):
        def _delete(self, name: str, environ: Any) -> Any:
            self.cache.pop(name, None)
            return super()._delete(name, environ)

    with Cached("stale") as server:
        (report,) = check(server)
    assert "overwrite" in unsafe(report) and "RESTO_MEDIA_HOSTS" in the(report, "overwrite").remedy


def test_nothing_is_removed_as_a_tree_where_the_folder_is_not_ours(check: Any) -> None:
    """A server that drops the first part of a path would lose everything."""
    with Memory("no folders") as server:
        server.files["kept.jpg"] = b"kept"
        (report,) = check(server)
        assert server.files == {"kept.jpg": b"kept"}
        assert unsafe(report) == {"write"} and "outside" in the(report, "write").seen
        assert not any(name.endswith("/") or FOLDER.fullmatch(name) for name in server.deleted)
    assert "kept.jpg" not in str(report.left)


def test_writes_without_credentials_are_found_where_there_are_credentials(check: Any, tmp_path: Path) -> None:
    """Without any it cannot be told."""
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text("* basic x:y")
    with Memory() as server:
        wanted = Security(parse_hosts([server.url], "/"), credentials_file=str(own))
        (report,) = check(server)
        assert the(report, "credentials").verdict == "unknown"
        (report,) = check(server, security=wanted)
        assert unsafe(report) == {"credentials"}


@pytest.mark.parametrize(
    ("shown", "cure"), [("basic x:y", "user and password"), (f"secret app-1:{'x' * 40}", "compare the clocks, the key")]
)
def test_credentials_that_are_refused_have_a_remedy_of_their_own(
    shown: str, cure: str, check: Any, tmp_path: Path
) -> None:
    """Whoever gave some is not told to give some, but what to compare; without any it is the other way round."""
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text(f"* {shown}")
    access = Access(keys=[Key("app-1", b"y" * 40)])
    with Node(tmp_path / "root", access=access) as node:
        wanted = Security(parse_hosts([node.url], "/"), credentials_file=str(own))
        (report,) = check(node, security=wanted)
        assert unsafe(report) == {"write"} and cure in the(report, "write").remedy
        (report,) = check(node)
        assert "it wants credentials" in the(report, "write").remedy


def test_a_defect_of_a_probe_is_raised_when_all_is_taken_away(
    nginx: Any, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no finding, and leaves nothing."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("resto_wsgi.check.subject.Subject.announce", broken)
    with pytest.raises(ZeroDivisionError):
        check(nginx)
    assert tree(nginx.root) == []


def test_a_check_that_is_stopped_twice_says_what_is_left(nginx: Any) -> None:
    """The first stop takes everything away, the second leaves it there."""
    transport = HttpTransport(2.0)
    work = made(transport, nginx)
    work.stop()
    (report,) = work.run()
    assert work.interrupted and not report.left and not report.findings and not report.safe
    work = made(transport, nginx)

    def twice() -> None:
        eventually(lambda: tree(nginx.root))
        work.stop()
        work.stop()

    thread = threading.Thread(target=twice)
    thread.start()
    (report,) = work.run()
    thread.join()
    assert report.left == (f"{report.folder}/ and what is in it",)
    transport.close()


@pytest.mark.parametrize("kind", WELL)
def test_a_stop_at_any_request_leaves_nothing(kind: str, media_servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of the first, while it is not yet known whose the folder is, and at some later ones."""
    (server,) = media_servers(kind)
    look, transport = Subject.check_stop, HttpTransport(2.0)
    for number in (*range(1, 36), 50, 80, 120, 160):
        work, calls = made(transport, server), itertools.count(1)

        def counted(subject: Subject, work: Check = work, calls: Any = calls, number: int = number) -> None:
            if next(calls) == number:
                work.stop()
            look(subject)

        monkeypatch.setattr(Subject, "check_stop", counted)
        (report,) = work.run()
        assert work.interrupted and not report.left, (number, report)
        assert tree(server.root) == [], number
    transport.close()


# Several hosts


def test_what_differs_between_hosts_is_said(media_servers: Any) -> None:
    """Limits, validators, and two names for one disk."""
    (small,) = media_servers("nginx", max_body=MIB)
    (large,) = media_servers("lighttpd", max_body=8 * MIB)
    transport = HttpTransport(2.0)
    hosts = [small.url, large.url, large.url.replace("127.0.0.1", "localhost")]
    work = made(transport, *hosts)
    reports = work.run()
    transport.close()
    differences = {finding.key: finding.seen for finding in work.differences}
    assert f"{small.url} 1 MiB" in differences["size"] and f"{large.url} 8 MiB" in differences["size"]
    assert "validators" in differences["mtime"]
    assert "twins" in differences and small.url not in differences["twins"]
    assert len({report.folder for report in reports}) == 3
    assert tree(small.root) == tree(large.root) == []


def test_clocks_that_differ_are_said(faulty: Any) -> None:
    """From this machine's, and from each other's."""

    def answer(connection: Any, reader: Any) -> None:
        while server.read_request(reader):
            head = b"HTTP/1.1 404 X\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head)

    server = faulty(answer)
    transport = HttpTransport(2.0)
    with Memory() as other:
        work = made(transport, server, other)
        late, _ = work.run()
    transport.close()
    assert "behind" in the(late, "clock").seen and "NTP" in the(late, "clock").remedy
    assert [finding.key for finding in work.differences if "clock" in finding.seen] == ["clock"]


# TLS


def certificate(folder: Path, address: str, days: int) -> Path:
    path = folder / "certificate.pem"
    what = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=media", "-days", str(days)]
    more = ["-addext", f"subjectAltName={address}", "-keyout", str(folder / "key.pem"), "-out", str(path)]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *what, *more], check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("address", "days", "trusted", "verdict", "seen"),
    [
        ("IP:127.0.0.1", 90, True, "ok", r"TLSv1\.[23]; the certificate ends \d{4}-\d\d-\d\d, in (89|90) days"),
        ("IP:127.0.0.1", 9, True, "warning", "in [89] days"),
        ("IP:127.0.0.1", 90, False, "unsafe", "self-signed"),
        ("DNS:elsewhere.test", 90, True, "unsafe", "IP address mismatch"),
    ],
)
def test_the_certificate_is_looked_at(
    address: str, days: int, trusted: bool, verdict: str, seen: str, tmp_path: Path, media_servers: Any, check: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """nginx with TLS: who it is for, who vouches for it, how long it lasts; the rest is checked over it."""
    path = certificate(tmp_path, address, days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    (free,) = media_servers("node")
    port = free.port
    free.stop()
    secure = f"listen 127.0.0.1:{port} ssl; ssl_certificate {path}; ssl_certificate_key {tmp_path}/key.pem;"
    (server,) = media_servers("nginx", extra=secure)
    (report,) = check(f"https://127.0.0.1:{port}")
    found = the(report, "tls")
    assert found.verdict == verdict and re.search(seen, found.seen), found
    assert report.safe is (verdict != "unsafe")
    assert tree(server.root) == []


@pytest.mark.parametrize(
    ("agreed", "verdict", "seen"),
    [(Tls("TLSv1.1", 0.0), "warning", "not safe any more"), (Tls("TLSv1.3", None), "unknown", "does not say")],
)
def test_what_tls_agrees_on_is_judged(agreed: Tls, verdict: str, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the libraries here would not even try is made up."""
    monkeypatch.setattr(Wire, "tls", lambda _: agreed)
    (host,) = parse_hosts(["https://media.test"], "/")
    (found,) = tls(Subject(host, HttpTransport(1.0), 1.0, threading.Event(), largest=MIB))
    assert found.verdict == verdict and seen in found.seen and found.remedy


@pytest.mark.parametrize(("secure", "key"), [(True, "tls"), (False, "reachable")])
def test_a_server_that_hangs_up_may_want_a_certificate(
    secure: bool, key: str, nginx: Any, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS; when Python says it as 3.13 does, which a real server brings about now and then."""

    def hung_up(*_: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(Wire, "_secured", lambda self, sock, bare: sock)
    monkeypatch.setattr(wire._Line, "send", hung_up)
    (report,) = check(nginx.url.replace("http:", "https:") if secure else nginx.url)
    assert unsafe(report) == {key}
    assert ("RESTO_CLIENT_CERT" in the(report, key).remedy) is secure


def test_a_server_that_speaks_no_tls_is_found(nginx: Any, check: Any) -> None:
    """Where the URL says https."""
    (report,) = check(nginx.url.replace("http:", "https:"))
    assert unsafe(report) == {"tls"} and "TLS failed" in the(report, "tls").seen


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 bytes"), (MIB, "1 MiB"), (1536, "1.5 KiB"), (1024**3, "1 GiB"), (5 * 1024**5, "5120 TiB")],
)
def test_bytes_are_said_as_people_do(count: int, text: str) -> None:
    """In powers of 1024."""
    assert human(count) == text
