"""Fixtures that the tests of the media server share: an application without a server, a node, and a tree of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import LOCAL, LOOPBACK, Node, Tree, free_port
from signing import KEY, NEXT, Clock

from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.http_server import Tls


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that is served."""
    return tmp_path / "root"


@pytest.fixture
def app(root: Path) -> MediaServer:
    """The application, for ``node_requests.ask``."""
    return MediaServer(root, access=LOCAL)


@pytest.fixture
def node(root: Path) -> Iterator[Node]:
    """The same on a server."""
    with Node(root) as started:
        yield started


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """Seven nodes in three levels."""
    with Tree(tmp_path / "tree") as started:
        yield started


@pytest.fixture
def above(tmp_path: Path) -> Iterator[Node]:
    """A node with children: one that does not answer, so that it remembers deletes."""
    with Node(tmp_path / "above", children=[f"http://{LOOPBACK}:{free_port()}"]) as started:
        yield started


# Who may write


@pytest.fixture
def clock() -> Clock:
    """The clock of ``keyed``."""
    return Clock()


@pytest.fixture
def keyed(root: Path, clock: Clock) -> MediaServer:
    """The application for those who sign with one of two keys."""
    return MediaServer(root, access=Access(keys=[KEY, NEXT]), clock=clock)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, certificates of a server and a client that it signed, and those of a stranger."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for authority in ("ca", "stranger-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={authority}", "-addext", "keyUsage=critical,keyCertSign",
                "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
    for name, authority in [("server", "ca"), ("client", "ca"), ("stranger", "stranger-ca")]:
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip
    return folder


@pytest.fixture
def tls_node(root: Path, pki: Path) -> Iterator[Node]:
    """A node that is spoken to over TLS, and lets those write who have a certificate of the authority."""
    tls = Tls(str(pki / "server.pem"), str(pki / "server.key"), str(pki / "ca.pem"))
    with Node(root, access=Access(certificates=True), server={"tls": tls, "timeout": 2, "threads": 3}) as started:
        yield started
