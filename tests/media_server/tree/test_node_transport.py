"""How a node speaks with the nodes below and above it: what they want to be shown."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from servers import Node
from trees import ask, ask_json, held

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import Access
from resto_wsgi.media_server.files.store import Store
from resto_wsgi.media_server.tree.above import CatchUpError
from resto_wsgi.media_server.tree.alone import Alone
from resto_wsgi.media_server.tree.catch_up import CatchUp
from resto_wsgi.trust.signatures import parse_keys

CAT = b"\xff\xd8 a cat \r\n" * 5000


@pytest.mark.parametrize("large", [False, True])
def test_children_that_want_a_signature_are_given_one(tmp_path: Path, large: bool) -> None:
    """PUT, DELETE, their pages and a catch-up; large files too, which are begun early only where they have a digest."""
    (key,) = parse_keys("app-1:" + "s" * 40, "the test")
    keys = tmp_path / "credentials"
    keys.write_text("* secret app-1:" + "s" * 40 + "\n")
    keys.chmod(0o600)
    credentials = {"credentials_file": str(keys)}
    content = CAT * (30 if large else 1)
    with contextlib.ExitStack() as stack:
        leaf = stack.enter_context(Node(tmp_path / "leaf", access=Access(keys=[key])))
        more: dict[str, Any] = {"children": [leaf.url], "timeout": 5.0, "credentials": credentials}
        root = stack.enter_context(Node(tmp_path / "root", **more))
        assert ask(leaf, "PUT", "/cat.jpg", content)[0] == 401
        assert ask(root, "PUT", "/cat.jpg", content)[0] == 201
        digest = format_digest(hashlib.sha256(content).digest())
        assert ask(root, "PUT", "/b/cat.jpg", content, Repr_Digest=digest)[0] == 201
        assert held(leaf) == held(root) == {"cat.jpg": content, "b/cat.jpg": content}
        assert ask_json(root, "/__missing__")["complete"] is True
        assert ask(root, "DELETE", "/cat.jpg")[0] == 200
        assert held(leaf) == {"b/cat.jpg": content}
        os.unlink(tmp_path / "root/b/cat.jpg")
        assert ask(root, "GET", "/b/cat.jpg")[2] == content
        fresh = Store(str(tmp_path / "fresh"))
        assert CatchUp(Alone(fresh), leaf.url, credentials=credentials).run().fetched == 1
        with pytest.raises(CatchUpError):
            CatchUp(Alone(Store(str(tmp_path / "stranger"))), leaf.url).run()
