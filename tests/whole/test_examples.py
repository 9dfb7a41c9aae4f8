"""The examples as people run them: each framework under each WSGI server, real clients, real media servers."""

from __future__ import annotations

import hashlib
import importlib
import io
import itertools
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import requests
import urllib3
import wsgi_servers
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from servers import eventually, server_of

from resto_wsgi import Replicator, UploadMiddleware

EXAMPLES = Path(__file__).parents[2] / "examples"
FRAMEWORKS = {"plain": "the application", "flask_app": "Flask", "pyramid_app": "Pyramid", "django_app": "Django"}
TITLE = 'Füße & <b>"größer"</b>'
CURL = ("curl", "-sS", "--noproxy", "*", "--max-time", "30")
TEXT = "Zażółć gęślą jaźń 日本.txt"
LIMIT = 64 * 1024  # bytes of a file, where the limit is tested
FORM = b'--x\r\nContent-Disposition: form-data; name="files"; filename="cut.bin"\r\n\r\n'


@dataclass(frozen=True)
class Answer:
    """What a client received."""

    status: int
    headers: Mapping[str, str]
    text: str


Client = Callable[[str, "list[Path]", Path], Answer]


def hidden(page: str) -> list[tuple[str, str]]:
    """The hidden fields of the form on a page, which a browser sends along: Django's token."""
    return re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', page)


def by_urllib3(url: str, paths: list[Path], folder: Path) -> Answer:
    """Fetch the form, then send it, as urllib3's users do."""
    with urllib3.PoolManager(retries=False, timeout=30) as pool:
        page = pool.request("GET", url)
        cookie = page.headers.get("Set-Cookie", "").partition(";")[0]
        fields: list[Any] = [("title", TITLE), *hidden(page.data.decode())]
        fields += [("files", (path.name, path.read_bytes(), "application/octet-stream")) for path in paths]
        answer = pool.request("POST", url, fields=fields, headers={"Cookie": cookie} if cookie else {})
        return Answer(answer.status, answer.headers, answer.data.decode())


def by_requests(url: str, paths: list[Path], folder: Path) -> Answer:
    """Fetch the form, then send it, as requests' users do."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy
        data = [("title", TITLE), *hidden(session.get(url, timeout=30).text)]
        files = [("files", (path.name, path.read_bytes())) for path in paths]
        with session.post(url, data=data, files=files, timeout=30) as answer:
            return Answer(answer.status_code, answer.headers, answer.content.decode())


def by_curl(url: str, paths: list[Path], folder: Path, *options: str) -> Answer:
    """Fetch the form, then send it, as a script does."""
    if shutil.which("curl") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("curl is not installed")
    jar, head = str(folder / "jar"), folder / "head"
    command = [*CURL, "-b", jar, "-c", jar, "-D", str(head), url]
    page = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    form = [["--form-string", f"{name}={value}"] for name, value in [("title", TITLE), *hidden(page)]]
    form += [["--form", f"files=@{path}"] for path in paths]
    command += [*itertools.chain(*form), *options]
    page = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    *_, last = head.read_bytes().decode("latin-1").strip().split("\r\n\r\n")  # a 100 Continue comes first
    lines = last.split("\r\n")
    headers = urllib3.HTTPHeaderDict(line.split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), headers, page)


def by_chunks(url: str, paths: list[Path], folder: Path) -> Answer:
    """The same with a body that announces no length."""
    return by_curl(url, paths, folder, "-H", "Transfer-Encoding: chunked")


CLIENTS: list[Client] = [by_urllib3, by_requests, by_curl]
# Neighbours in a row and in a column differ: each client meets each framework and each server.
MATRIX = [
    (framework, server, CLIENTS[(row + column) % len(CLIENTS)])
    for row, framework in enumerate(FRAMEWORKS)
    for column, server in enumerate(wsgi_servers.COMMANDS)
]


@dataclass(frozen=True)
class Site:
    """An example that runs under a WSGI server."""

    framework: str
    kind: str
    client: Client
    server: wsgi_servers.WsgiServer
    media_root: Path


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Three nginx that serve the whole module."""
    with ExitStack() as stack:
        yield [stack.enter_context(server_of("nginx", tmp_path_factory.mktemp("nginx"))) for _ in range(3)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A text with a name that is not ASCII, and 3 MiB in which every kind of byte occurs."""
    folder = tmp_path_factory.mktemp("files")
    text, noise = folder / TEXT, folder / "noise.bin"
    text.write_text("Grüße\r\n--x--\r\n", "utf-8", newline="")
    noise.write_bytes(random.Random(1).randbytes(3 * 1024 * 1024))
    return [text, noise]


@pytest.fixture(scope="module", params=MATRIX, ids=lambda row: f"{row[0]}-{row[1]}")
def site(request: pytest.FixtureRequest, hosts: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Each example under each WSGI server, which may not have printed a traceback at the end."""
    framework, kind, client = request.param
    folder = tmp_path_factory.mktemp(f"{framework}-{kind}")
    with serving(framework, kind, folder, [host.url for host in hosts]) as server:
        yield Site(framework, kind, client, server, folder / "media")
    assert "Traceback" not in server.log


def serving(framework: str, kind: str, folder: Path, hosts: Iterable[str]) -> Any:
    """Run an example with a media root below ``folder`` and these media servers."""
    environ = {"MEDIA_ROOT": str(folder / "media"), "RESTO_MEDIA_HOSTS": " ".join(hosts), "PYTHONPATH": str(EXAMPLES)}
    return wsgi_servers.running(kind, f"{framework}:application", folder / "log", environ)


def files(root: Any) -> set[str]:
    """The names of all files under a folder, but for locks, the outbox and the id."""
    found = (path.relative_to(root) for path in Path(root).rglob("*") if path.is_file())
    return {str(path) for path in found if path.suffix != ".lock" and path.parent.name != ".resto"}


def staged(media_root: Path) -> set[str]:
    """The files that are staged now."""
    return {name for name in files(media_root) if name.startswith(".resto/")}


def names_on(page: str) -> list[str]:
    """The names that the page's links lead to, below MEDIA_URL."""
    links = re.findall(r'<a href="/media/([^"]+)">([^<]+)</a>', page)
    names = [unquote(unescape(href)) for href, _ in links]
    assert names == [unescape(text) for _, text in links]
    return names


def assert_shown(answer: Answer, framework: str, paths: list[Path]) -> None:
    """The page has each upload as the middleware caught it, and as the framework read it from the body."""
    assert answer.status == 200, answer.text
    caught, mark, read = answer.text.partition(f"<h2>As {FRAMEWORKS[framework]} read it</h2>")
    assert mark and TITLE not in answer.text
    assert f"“{TITLE}”" in unescape(read)
    for path in paths:
        data = path.read_bytes()
        assert f"{len(data)} bytes, SHA-256 <code>{hashlib.sha256(data).hexdigest()}</code>" in caught
        assert f"<li>{path.name}, {len(data)} bytes" in unescape(read)


def assert_served(page: str, hosts: list[Any], paths: list[Path]) -> None:
    """Every media server answers with every file, byte by byte."""
    names = names_on(page)
    assert [Path(name).stem.rpartition("-")[0] for name in names] == [path.stem for path in paths]
    for host, (name, path) in itertools.product(hosts, zip(names, paths, strict=True)):
        reply = urllib3.request("GET", f"{host.url}/{quote(name)}", retries=False, timeout=10)
        assert (reply.status, reply.data) == (200, path.read_bytes())


class TestServed:
    """Each example under each server."""

    def test_an_upload_is_everywhere_when_the_answer_arrives(
        self, site: Site, hosts: list[Any], paths: list[Path], tmp_path: Path
    ) -> None:
        """The files are on every media server, the framework has read them, and nothing stays staged."""
        answer = site.client(site.server.url, paths, tmp_path)
        assert_served(answer.text, hosts, paths)
        assert_shown(answer, site.framework, paths)
        assert set(names_on(answer.text)) <= files(site.media_root)
        eventually(lambda: not staged(site.media_root))

    def test_a_body_without_a_length_arrives_whole(
        self, site: Site, hosts: list[Any], paths: list[Path], tmp_path: Path
    ) -> None:
        """Transfer-Encoding: chunked is an upload like any other, for the framework too."""
        answer = by_chunks(site.server.url, paths, tmp_path)
        assert_served(answer.text, hosts, paths)
        assert_shown(answer, site.framework, paths)
        eventually(lambda: not staged(site.media_root))

    @pytest.mark.parametrize(
        ("announced", "sent", "end"),
        [(1000, 100, b"\r\n--x--\r\n"), (1_000_000, 400_000, b"")],
        ids=["whole form", "cut file"],
    )
    def test_a_cut_upload_leaves_nothing(
        self, site: Site, hosts: list[Any], announced: int, sent: int, end: bytes
    ) -> None:
        """A client that ends early, be its form whole or not, gets 400 if anything, and no file of it is anywhere."""
        before = files(site.media_root), [files(host.root) for host in hosts]
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {announced}\r\n".encode()
        with socket.create_connection(site.server.address, timeout=10) as client:
            client.sendall(head + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")
            client.sendall(FORM.ljust(sent - len(end), b"-") + end)
            if sent > 256 * 1024 and site.kind in wsgi_servers.STREAMING:
                eventually(lambda: staged(site.media_root))
            client.shutdown(socket.SHUT_WR)
            reply = b"".join(iter(lambda: client.recv(65536), b""))
        assert reply.split(b" ")[1:2] == [b"400"] or (reply == b"" and site.kind not in wsgi_servers.STREAMING)
        eventually(lambda: not staged(site.media_root))
        assert (files(site.media_root), [files(host.root) for host in hosts]) == before

    def test_a_media_server_that_is_down_refuses_the_upload(
        self, site: Site, hosts: list[Any], paths: list[Path], tmp_path: Path
    ) -> None:
        """503 with Retry-After; the files are neither here nor on the media servers that took them."""
        before = files(site.media_root), [files(host.root) for host in hosts]
        hosts[1].stop()
        try:
            answer = site.client(site.server.url, paths, tmp_path)
        finally:
            hosts[1].start()
        assert (answer.status, answer.headers["Retry-After"].isdecimal()) == (503, True)
        assert f"{hosts[1].url}: refuses connections" in site.server.log
        eventually(lambda: not staged(site.media_root))
        assert (files(site.media_root), [files(host.root) for host in hosts]) == before


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    """A browser without a window; without one the test fails in CI and is skipped elsewhere."""
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(option)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


def test_a_browser_uploads_what_a_person_picks(
    browser: webdriver.Chrome, hosts: list[Any], paths: list[Path], tmp_path: Path
) -> None:
    """The body of a real browser: files picked, a title typed, the form sent, the page read."""
    with serving("flask_app", "gunicorn-gthread", tmp_path, [host.url for host in hosts]) as server:
        browser.get(server.url)
        browser.find_element(By.NAME, "title").send_keys(TITLE)
        browser.find_element(By.NAME, "files").send_keys("\n".join(map(str, paths)))
        browser.find_element(By.TAG_NAME, "button").click()
        WebDriverWait(browser, 30).until(lambda it: it.find_elements(By.TAG_NAME, "h2"))
        links = browser.find_elements(By.CSS_SELECTOR, "li a")
        assert [link.get_attribute("href") for link in links] == [
            f"{server.url}media/{quote(link.text)}" for link in links
        ]
        page = "".join(f'<a href="/media/{quote(link.text)}">{link.text}</a>' for link in links)
        assert_served(page, hosts, paths)
        body = browser.find_element(By.TAG_NAME, "body").text
        assert f"As Flask read it\n“{TITLE}”" in body
        for path in paths:
            assert f"{path.name}, {path.stat().st_size} bytes" in body
            assert hashlib.sha256(path.read_bytes()).hexdigest() in body
        eventually(lambda: not staged(tmp_path / "media"))


def test_a_form_without_djangos_token_leaves_nothing(hosts: list[Any], tmp_path: Path) -> None:
    """What the application refuses is not published: Django's own 403 stands, and the files are gone."""
    before = [files(host.root) for host in hosts]
    with serving("django_app", "cheroot", tmp_path, [host.url for host in hosts]) as server:
        answer = urllib3.request("POST", server.url, fields={"files": ("a.txt", b"a")}, retries=False, timeout=10)
        eventually(lambda: not staged(tmp_path / "media"))
    assert (answer.status, b"CSRF" in answer.data) == (403, True)
    assert (files(tmp_path / "media"), [files(host.root) for host in hosts]) == (set(), before)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_example_serves_itself(framework: str, tmp_path: Path) -> None:
    """Run as a program it prints where it listens, and hands its application to waitress."""
    code = (
        "import runpy, sys, waitress, webob\n"
        "def serve(application, listen): print(listen, webob.Request.blank('/', "
        "base_url='http://localhost').get_response(application).status)\n"
        "waitress.serve = serve\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(EXAMPLES / f"{framework}.py")]
    environ = {**os.environ, "MEDIA_ROOT": str(tmp_path)}
    output = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["http://127.0.0.1:8000/", "127.0.0.1:8000 200 OK"]


@pytest.fixture(scope="module", params=FRAMEWORKS)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """An example, imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        patch.setenv("MEDIA_ROOT", str(tmp_path_factory.mktemp("unused")))
        module = importlib.import_module(request.param)
    yield module
    module.application.replicator.close()


class TestValid:
    """Each example between two validators of PEP 3333: what the server gives and gets, what the application does."""

    @pytest.fixture
    def application(self, example: ModuleType, hosts: list[Any], tmp_path: Path) -> Iterator[Any]:
        """The example wrapped anew, with a small limit, and validated on both sides."""
        with Replicator(media_root=tmp_path / "media", media_hosts=[host.url for host in hosts]) as replicator:
            yield validator(UploadMiddleware(validator(example.app), replicator, max_file_size=LIMIT))

    def test_get(self, application: Any) -> None:
        """A request that is not ours passes through."""
        status, _, page = call(application)
        assert (status, 'type="file" multiple' in page) == ("200 OK", True)

    def test_upload(self, application: Any, example: ModuleType, hosts: list[Any], tmp_path: Path) -> None:
        """An upload is caught and handed over by the rules."""
        paths = [tmp_path / TEXT, tmp_path / "small.bin"]
        for path in paths:
            # Together under 10 KiB: WebOb copies a larger body that is wrapped to a file that it leaves open.
            path.write_bytes(random.Random(path.name).randbytes(4000))
        status, headers, page = post(application, [("title", TITLE), *map(picked, paths)])
        assert_shown(Answer(int(status[:3]), headers, page), example.__name__, paths)
        assert_served(page, hosts, paths)
        assert not staged(tmp_path / "media")

    def test_upload_over_the_limit(self, application: Any, hosts: list[Any], tmp_path: Path) -> None:
        """The middleware's own answer keeps to the rules too, in each of its forms."""
        before = [files(host.root) for host in hosts]
        for accept, content_type in (("", "text/plain"), ("text/html", "text/html"), ("application/json",) * 2):
            large = ("files", ("large.bin", bytes(LIMIT + 1), "application/octet-stream"))
            status, headers, page = post(application, [large], HTTP_ACCEPT=accept)
            assert (status[:3], "A file is over" in page) == ("413", True)
            assert headers["Content-Type"].startswith(content_type)
        assert (files(tmp_path / "media"), [files(host.root) for host in hosts]) == (set(), before)

    def test_form_with_no_file_picked(self, application: Any, example: ModuleType) -> None:
        """What a browser sends for an empty file field is no upload."""
        status, headers, page = post(application, [("title", TITLE), ("files", ("", b"", "application/octet-stream"))])
        assert_shown(Answer(int(status[:3]), headers, page), example.__name__, [])
        assert "<li>" not in page

    def test_form_that_is_not_multipart(self, application: Any) -> None:
        """Such a form is not ours: it passes through."""
        page = call(application)
        data = "&".join(f"{name}={quote(value)}" for name, value in [("title", TITLE), *hidden(page[2])]).encode()
        content_type = "application/x-www-form-urlencoded"
        status, *_ = call(application, data, CONTENT_TYPE=content_type, HTTP_COOKIE=cookie_of(page))
        assert status == "200 OK"


def picked(path: Path) -> tuple[str, tuple[str, bytes, str]]:
    """A form field with a file."""
    return "files", (path.name, path.read_bytes(), "application/octet-stream")


def cookie_of(page: tuple[str, Mapping[str, str], str]) -> str:
    """The cookie that an answer sets, as a client returns it; "" where there is none."""
    return page[1].get("Set-Cookie", "").partition(";")[0]


def post(application: Any, fields: list[Any], **environ: str) -> tuple[str, Mapping[str, str], str]:
    """Get the form, then send it back as multipart with these fields."""
    page = call(application)
    data, content_type = urllib3.encode_multipart_formdata([*fields, *hidden(page[2])])
    return call(application, data, CONTENT_TYPE=content_type, HTTP_COOKIE=cookie_of(page), **environ)


def call(application: Any, data: bytes | None = None, **environ: str) -> tuple[str, Mapping[str, str], str]:
    """Call a WSGI application as a server does: read the whole answer, then close it."""
    request: dict[str, Any] = {key: value for key, value in environ.items() if value}
    if data is not None:
        request |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(data)), "wsgi.input": io.BytesIO(data)}
    request |= {"QUERY_STRING": "", "PATH_INFO": "/", "SCRIPT_NAME": ""}
    setup_testing_defaults(request)
    head: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        head[:] = status, urllib3.HTTPHeaderDict(headers)
        return written.append

    written: list[bytes] = []
    chunks = application(request, start_response)
    try:
        written.extend(chunks)
    finally:
        chunks.close()
    return head[0], head[1], b"".join(written).decode()
