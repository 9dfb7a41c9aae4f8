"""TLS as `resto config` prints it for each server: readers need no certificate, and writers may."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from printed import STRANGER, ask, printed_server, with_tls

from resto_wsgi import Replicator
from resto_wsgi.demo import stock


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
def test_files_are_saved_and_read_over_tls(
    kind: str, stack: ExitStack, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved and read back over TLS, with the certificate verified; nothing is answered in the clear."""
    if kind == "lighttpd" and not Path(stock.LIGHTTPD_MODULES, "mod_openssl.so").exists():
        pytest.skip("lighttpd needs apt install lighttpd-mod-openssl")
    server = printed_server(stack, kind, scheme="https")
    server.configure(*with_tls(server, certificates))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    trusted = {"ca_certs": str(certificates / "ca.pem")}
    with Replicator(media_root=tmp_path / "media", media_hosts=[server.url], background=False) as replicator:
        replicator.save("a/cat", b"cat")
        assert ask("GET", f"{server.url}/a/cat", source=STRANGER, **trusted).data == b"cat"
        replicator.delete("a/cat")
    assert server.files() == {}
    assert ask("PUT", f"{server.url}/evil", b"evil", source=STRANGER, **trusted).status == 403
    try:
        assert ask("GET", f"http://{server.label}/media/a/cat").status == 400
    except Exception as error:
        assert "Connection" in str(error)


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_a_writer_shows_its_certificate(kind: str, stack: ExitStack, certificates: Path) -> None:
    """Where an authority is given: readers need none, and an address alone is not enough to write."""
    server = printed_server(stack, kind, scheme="https")
    server.configure(*with_tls(server, certificates), "--client-ca", f"{server.folder}/ca.pem")
    trusted = {"ca_certs": str(certificates / "ca.pem")}
    mine = trusted | {"cert_file": str(certificates / "writer.pem"), "key_file": str(certificates / "writer.key")}
    assert ask("PUT", f"{server.url}/a", b"cat", **trusted).status == 403
    assert ask("PUT", f"{server.url}/a", b"cat", **mine).status == 201
    assert ask("PUT", f"{server.url}/a", b"evil", source=STRANGER, **mine).status == 403
    assert ask("GET", f"{server.url}/a", source=STRANGER, **trusted).data == b"cat"
    assert ask("DELETE", f"{server.url}/a", headers={"Depth": "0"}, **trusted).status == 403
    assert ask("DELETE", f"{server.url}/a", headers={"Depth": "0"}, **mine).status == 204
