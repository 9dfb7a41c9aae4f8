"""Every example of the README is run as it stands, with this machine's addresses and folders in place of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docutils.core
import docutils.nodes
import pytest
import urllib3
from printed import ENVIRON, RESTO, Printed, open_folder, printed, resto, user
from servers import Node, eventually
from webob import Request

from resto_wsgi import Replicator
from resto_wsgi.config import settings_table
from resto_wsgi.demo.stock import StockServer
from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import Access
from resto_wsgi.media_server.http_server import Tls
from resto_wsgi.trust.signatures import parse_keys, sign

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.rst").read_text()
JPEG = b"\xff\xd8\xff" + b"x" * 1000


def blocks() -> list[tuple[str, str]]:
    """Return the language and the text of each literal block."""
    document = docutils.core.publish_doctree(README, settings_overrides={"report_level": 2, "halt_level": 2})
    found = []
    for node in document.findall(docutils.nodes.literal_block):
        classes = [each for each in node["classes"] if each != "code"]
        found.append((classes[0] if classes else "shell", node.astext()))
    return found


def of(language: str) -> list[str]:
    return [text for each, text in blocks() if each == language]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[StockServer]]:
    """Two nginx in place of media-01 and media-02."""
    first = StockServer("nginx", tmp_path_factory.mktemp("media-01"))
    second = StockServer("nginx", tmp_path_factory.mktemp("media-02"))
    with first, second:
        yield [first, second]


@pytest.fixture
def localized(tmp_path: Path, servers: list[StockServer]) -> Any:
    """Return a function that puts this machine's values in the place of the README's."""

    def localize(text: str) -> str:
        for name, server in zip(("media-01:8080", "media-02:8080"), servers, strict=True):
            text = text.replace(name, f"127.0.0.1:{server.port}")
        return text.replace("/srv/media", str(tmp_path / "media"))

    return localize


def upload(application: Any, path: str = "/photos", **environ: Any) -> Any:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nTom\r\n'
        b'--b\r\nContent-Disposition: form-data; name="photo"; filename="tom.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + JPEG + b"\r\n--b--\r\n"
    )
    request = Request.blank(path, method="POST", body=body)
    request.content_type = "multipart/form-data; boundary=b"
    request.environ.update(environ)
    return request.get_response(application)


def copies(folder: str | Path) -> list[Path]:
    return [path for path in Path(folder).rglob("tom-*.jpg") if path.read_bytes() == JPEG]


def test_the_readme_has_the_examples_that_are_tested_here() -> None:
    """An example in another language would not be run; one that is gone would not be missed."""
    languages = [language for language, _ in blocks()]
    assert {each: languages.count(each) for each in languages} == {
        "shell": 14, "python": 9, "ini": 1, "text": 2
    }  # fmt: skip


APPLICATIONS = [text for text in of("python") if "UploadMiddleware(" in text and "django" not in text]


@pytest.mark.parametrize("text", APPLICATIONS)
def test_an_application_of_the_readme_replicates_an_upload(
    text: str, localized: Any, servers: list[StockServer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is wrapped in its one line, which warns of nothing; what it answers is a success; two servers have it."""
    before = [len(copies(server.root)) for server in servers]
    space: dict[str, Any] = {"__name__": __name__}
    exec(compile(localized(text), "README.rst", "exec"), space)
    application = space.get("app") or space["application"]
    assert not caplog.records
    response = upload(application, REMOTE_USER="tom")
    assert 200 <= response.status_code < 400, response.body
    assert [len(copies(server.root)) for server in servers] == [count + 1 for count in before]
    (master,) = copies(tmp_path / "media")
    if "reference" in text:
        assert response.text == str(master.relative_to(tmp_path / "media"))
    if "logged_in" in text:
        assert upload(application).status_code == 401
        assert upload(application, path="/elsewhere").status_code == 204
    getattr(application, "wsgi_app", application).replicator.close()


def test_the_first_example_answers_every_request_and_the_test_client_reaches_it(localized: Any, tmp_path: Path) -> None:
    """A GET, a form elsewhere, and an upload through the test client of the README."""
    space: dict[str, Any] = {"__name__": __name__}
    (client,) = [text for text in of("python") if "werkzeug.test" in text]
    exec(compile(localized(APPLICATIONS[0]), "README.rst", "exec"), space)
    exec(compile(client, "README.rst", "exec"), space)
    application = space["application"]
    assert Request.blank("/photos").get_response(application).status_code == 200
    assert upload(application, path="/elsewhere").text == ""
    (name,) = space["upload_a_photo"](application).text.splitlines()
    assert (tmp_path / "media" / name).read_bytes() == b"..."
    application.replicator.close()


def test_the_django_example_replicates_an_upload(localized: Any, servers: list[StockServer], tmp_path: Path) -> None:
    """In a process of its own, because Django is configured once in a process."""
    (text,) = [text for text in of("python") if "django" in text]
    project = f"""
        import sys
        from django.conf import settings
        from django.http import HttpResponse
        from django.urls import path

        def photos(request):
            (upload,) = request.environ["resto.uploads"]
            return HttpResponse(f"{{request.FILES['photo'].size}} {{upload.name}}")

        settings.configure(
            ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MEDIA_ROOT={str(tmp_path / "media")!r},
            MEDIA_URL="/media/", RESTO_MEDIA_HOSTS={[f"127.0.0.1:{server.port}" for server in servers]!r},
        )
        urlpatterns = [path("photos", photos)]
    """
    script = tmp_path / "site.py"
    call = "from test_readme import upload\nprint(upload(application).text)\n"
    script.write_text(f"{textwrap.dedent(project)}\n{text}\n{call}")
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "tests"), str(Path(__file__).parent))),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.stdout.startswith(f"{len(JPEG)} uploads/"), done.stderr
    assert copies(tmp_path / "media") and all(copies(server.root) for server in servers)


def test_the_library_example_runs(localized: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What it prints is what it promises."""
    (text,) = [text for text in of("python") if "replicator.save" in text]
    exec(compile(localized(text), "README.rst", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reports/2026.txt 11 ") and lines[0].endswith(" /media/reports/2026.txt")
    assert lines[1] == "([], ['2026.txt'])"


def test_the_ini_example_wraps_an_application(localized: Any, servers: list[StockServer], tmp_path: Path) -> None:
    """PasteDeploy finds the filter by its entry point."""
    deploy = pytest.importorskip("paste.deploy") if "CI" not in os.environ else __import__("paste.deploy").deploy
    ini = tmp_path / "site.ini"
    ini.write_text(
        localized(of("ini")[0])
        + f"\n[app:bare]\npaste.app_factory = {__name__}:make_bare\n[pipeline:main]\npipeline = resto bare\n"
    )
    application = deploy.loadapp(f"config:{ini}")
    assert upload(application).status_code == 200
    assert copies(tmp_path / "media")
    application.replicator.close()


def make_bare(global_conf: Any, **local_conf: Any) -> Any:
    """Return the application of the ini file."""

    def bare(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["resto.uploads"][0].name.encode()]

    return bare


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
def test_the_configuration_of_a_media_server_is_safe_and_works(kind: str) -> None:
    """The application server may write, another address may only read, and folders are made on the way."""
    (shell,) = [text for text in of("shell") if "config nginx --root /srv/media --host" in text]
    (line,) = [line for line in shell.splitlines() if line.startswith(f"resto config {kind} ")]
    with open_folder() as folder, Printed(kind, folder) as server:
        line = line.replace("/srv/media", str(server.root)).replace("192.0.2.10", "127.0.0.1")
        line = line.replace("media-01:8080", server.label)
        options = ["--run", str(server.run), "--user", user()]
        server.start(printed(*shlex.split(line)[2:], *options, RESTO_MEDIA_HOSTS=f"{server.label} 127.0.0.1:1"))
        use_as_media_server(server.port, server.root)


def test_the_example_of_a_check_is_what_the_check_says() -> None:
    """Line by line, of an nginx with that limit, where the application server is this machine."""
    (command,) = [text.strip() for text in of("shell") if "grep" in text]
    with open_folder() as folder, Printed("nginx", folder) as server:
        server.configure("--max-body", "1m")
        command = command.replace("resto", shlex.join(RESTO), 1).replace("media-01:8080", server.label)
        done = subprocess.run(["sh", "-c", command], env=ENVIRON, capture_output=True, text=True, timeout=60)
        said = done.stdout.replace(server.label, "media-01:8080").replace("127.0.0.1", "192.0.2.10")
    (example,) = [text for text in of("text") if "replication is" in text]
    assert [line.rstrip() for line in said.splitlines()] == example.splitlines()


def test_our_own_media_server_is_safe_and_works(tmp_path: Path) -> None:
    """The application server may write, another address may only read."""
    (text,) = [text for text in of("shell") if "media-server" in text and "--allow" in text and "--c" not in text]
    with own_server(text.replace("192.0.2.0/28", "127.0.0.1"), tmp_path) as port:
        use_as_media_server(port, tmp_path / "media")


def test_the_tree_of_our_own_media_servers_works(tmp_path: Path) -> None:
    """The root passes on to two children; a third node is brought up to date from it."""
    (text,) = [text for text in of("shell") if "--child" in text]
    (catching_up,) = [text for text in of("shell") if "--catch-up-from" in text]
    with Node(tmp_path / "2") as second, Node(tmp_path / "3") as third:
        text = text.replace("http://media-02:8080", second.url).replace("http://media-03:8080", third.url)
        (tmp_path / "1").mkdir()
        with own_server(text.replace("192.0.2.0/28", "127.0.0.1"), tmp_path / "1") as port:
            use_as_media_server(port, tmp_path / "1/media")
            assert urllib3.request("PUT", f"http://127.0.0.1:{port}/cat", body=b"cat").status == 201
            assert Path(second.root, "cat").read_bytes() == Path(third.root, "cat").read_bytes() == b"cat"
            (tmp_path / "4").mkdir()
            catching_up = catching_up.replace("media-01:8080", f"127.0.0.1:{port}").replace("192.0.2.0/28", "127.0.0.1")
            with own_server(catching_up, tmp_path / "4"):
                assert (tmp_path / "4/cat").read_bytes() == b"cat"


def test_our_own_media_server_takes_signatures_over_tls(tmp_path: Path) -> None:
    """With the key that the example makes; without one, everybody may only read."""
    (text,) = [text for text in of("shell") if "--secret-file" in text]
    certificate = f"-subj /CN=media-01 -keyout {tmp_path}/media-key.pem -out {tmp_path}/media-cert.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -addext subjectAltName=DNS:media-01 {certificate}"
    subprocess.run(make.split(), check=True, capture_output=True)
    with own_server(text, tmp_path) as port:
        (key,) = parse_keys((tmp_path / "media-keys").read_text(), "the file")
        assert (tmp_path / "media-keys").stat().st_mode & 0o777 == 0o600
        digest = format_digest(hashlib.sha256(b"hello").digest())
        headers = {"Host": f"media-01:{port}", "Content-Length": "5", "Repr-Digest": digest}
        signature = sign("PUT", f"https://media-01:{port}/x", headers, key=key, created=int(time.time()), nonce="1")
        with urllib3.HTTPSConnectionPool(
            "127.0.0.1", port, ca_certs=f"{tmp_path}/media-cert.pem", server_hostname="media-01",
            assert_hostname="media-01", retries=False,
        ) as pool:  # fmt: skip
            assert pool.request("PUT", "/x", body=b"hello", headers=headers).status == 401
            assert pool.request("PUT", "/x", body=b"hello", headers={**headers, **signature}).status == 201
            assert pool.request("GET", "/x").data == b"hello"


def test_the_credentials_of_the_readme_serve_its_example(tmp_path: Path) -> None:
    """A server of our own over TLS, with a private authority, is safe to use with the file as it stands."""
    (lines,) = [text for text in of("text") if "bearer" in text]
    (shell,) = [text for text in of("shell") if "RESTO_CREDENTIALS_FILE=" in text]
    folder = tmp_path / "media"
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text(lines)
    what = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=media -addext subjectAltName=IP:127.0.0.1"
    make = f"openssl req -x509 {what} -days 9 -keyout {tmp_path}/key.pem -out {tmp_path}/ca.pem"
    subprocess.run(make.split(), check=True, capture_output=True)
    tls = Tls(f"{tmp_path}/ca.pem", f"{tmp_path}/key.pem")
    keys = parse_keys("app-1:OUTPUT-OF-openssl-rand-base64-32", "the README")
    with Node(folder, access=Access(keys=keys), server={"tls": tls}) as node:
        shell = shell.replace("media-01:8443", f"127.0.0.1:{node.port}").replace("/srv/", f"{tmp_path}/")
        environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", shell], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without credentials a PUT is answered with 401" in done.stdout


@contextlib.contextmanager
def own_server(text: str, folder: Path) -> Iterator[int]:
    """Run an example that starts a server, with this machine's folder and a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    text = text.replace("/srv/files", str(folder)).replace("/srv/", f"{folder}/")
    text = re.sub(r"(0\.0\.0\.0|media-01):8\d\d\d\b", rf"\1:{port}", text).replace("0.0.0.0", "127.0.0.1")
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        ["sh", "-c", text], env=environ, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            eventually(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_tree_of_the_readme_is_printed(tmp_path: Path) -> None:
    """A configuration and a unit for each of the four nodes."""
    (line,) = [text for text in of("shell") if "--tree" in text]
    done = resto(*shlex.split(line.replace("--output tree", f"--output {tmp_path}/tree"))[1:])
    assert done.returncode == 0 and done.stderr.startswith("resto: nginx does not start while it cannot resolve m2, ")
    assert len(list(tmp_path.glob("tree/m?_8080.nginx.conf"))) == 4
    assert len(list(tmp_path.glob("tree/m?_8080.resto-media-server.service"))) == 4


def use_as_media_server(port: int, root: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as master,
        Replicator(media_root=master, media_hosts=[f"127.0.0.1:{port}"]) as replicator,
    ):
        replicator.save("a/b/c.txt", b"hello")
        replica = root / "a" / "b" / "c.txt"
        assert replica.read_bytes() == b"hello"
        assert replica.stat().st_mode & 0o004
        for address, method, allowed in [
            ("127.0.0.2", "GET", True),
            ("127.0.0.2", "PUT", False),
            ("127.0.0.2", "DELETE", False),
        ]:
            with urllib3.HTTPConnectionPool("127.0.0.1", port, source_address=(address, 0), retries=False) as pool:
                answer = pool.request(method, "/media/a/b/c.txt", body=None if method == "GET" else b"")
                assert (answer.status < 300) == allowed, (method, answer.status)
                assert answer.headers.get("X-Content-Type-Options") == "nosniff" or not allowed
        assert replica.read_bytes() == b"hello"
        replicator.delete("a/b/c.txt")
        assert not replica.exists()


def test_the_shell_examples_run(tmp_path: Path) -> None:
    """The demo without a person, as it is written; ``make test`` is what runs this, so it is only looked up."""
    shell = "\n".join(of("shell"))
    assert {"make demo", "make test", "pip install .            # in a clone"} <= set(shell.splitlines())
    environ = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    for command in re.findall(r"``(make demo ARGS=[^`]+)``", README):
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run(["make", "-n", "test"], cwd=ROOT, env=environ, capture_output=True).returncode == 0
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet", "."]
    subprocess.run(install, cwd=ROOT, check=True, capture_output=True, timeout=120)
    script = "import resto_wsgi, resto_wsgi.middleware; print(resto_wsgi.__file__)"
    check = [tmp_path / "venv/bin/python", "-W", "ignore", "-c", script]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_the_commands_on_what_is_owed_run(localized: Any, servers: list[StockServer], tmp_path: Path) -> None:
    """All of them, one after the other: a server that was away is brought up to date."""
    (text,) = [text for text in of("shell") if "resto status" in text]
    settings = {
        "media_root": tmp_path / "media",
        "media_hosts": [f"127.0.0.1:{server.port}" for server in servers],
        "fatal_exceptions": False,
        "background": False,
    }
    servers[1].stop()
    with Replicator(**settings) as replicator:
        replicator.save("reports/2026.pdf", b"all is well")
    servers[1].start()
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", localized(text)], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown, file, drained, synced = re.split(r"\n(?='reports|nothing|127[^\n]* is owed)", done.stdout)
    assert "answers" in shown and "down" in shown and "does not hold it" in file
    assert drained == "nothing is owed"
    assert synced.startswith(f"127.0.0.1:{servers[1].port} is owed 1 name; ")
    assert Path(servers[1].root, "media/reports/2026.pdf").read_bytes() == b"all is well"


def table(keyword: str) -> dict[str, list[str]]:
    """Return the rows of the table that has a row for ``keyword``, by their first cell."""
    document = docutils.core.publish_doctree(README)
    for found in document.findall(docutils.nodes.table):
        rows = [[entry.astext() for entry in row.children] for row in found.findall(docutils.nodes.row)]
        cells = {first: rest for first, *rest in rows}
        if keyword in cells:
            return cells
    raise AssertionError(f"no table has {keyword}")


def test_the_settings_table_is_that_of_the_code() -> None:
    """Names, defaults and meanings, in one place each."""
    rows = {**table("media_root"), **table("max_file_size")}
    assert {key: rows.get(key) for key, *_ in settings_table()} == {key: rest for key, *rest in settings_table()}
