"""What this package uses of others beside their documented interface: which part, where, and what for.

A new version may move such a part without a word. The bounds in ``setup.cfg`` keep the next major version away until
somebody has looked here; the table says what to look at. Do without a part if you can, and take its line out.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from http.client import HTTPResponse
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from webob import Request
from webob.compat import cgi_FieldStorage

import resto_wsgi

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "resto_wsgi"
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make"}  # of a NamedTuple


def arguments_of(path: str) -> str:
    """Return the names of the arguments of what a path names. Raises AttributeError."""
    module, _, rest = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in rest.split("."):
        found = inspect.getattr_static(found, name)
    return ", ".join(inspect.signature(found).parameters)


@dataclass(frozen=True)
class Part:
    """``holds`` returns what is there; where that is not ``expected``, the part has moved."""

    library: str
    what: str
    expected: Any
    used_in: str
    why: str
    holds: Callable[[str], Any] = arguments_of

    def __str__(self) -> str:
        return self.what


def head_of_a_reply(_: str) -> Any:
    """Let http.client read a reply from something that is no socket, as ``reply`` does."""

    class Source:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

    response = HTTPResponse(Source(), method="GET")  # type: ignore[arg-type]
    response.begin()
    before = (response.length, response.chunked, response.will_close)
    response.read(2)
    return (*before, response.length)


def parsed_form(key: str) -> Any:
    """Give WebOb a form that was parsed, as ``handoff`` does; return what it makes of it."""
    body, form = io.BytesIO(b"x"), {"title": "Tom"}
    environ = {**Request.blank("/").environ, "REQUEST_METHOD": "POST", "CONTENT_TYPE": "multipart/form-data"}
    environ |= {"wsgi.input": body, "CONTENT_LENGTH": "1", "webob.is_body_seekable": True, key: (form, body)}
    return dict(Request(environ).POST)


PARTS = [
    Part(
        "cheroot",
        "cheroot.connections:ConnectionManager._expire",
        "self, threshold",
        "media_server/http_server.py",
        "it closes the connections that have been idle for longest, to take new ones",
    ),
    Part(
        "cheroot",
        "cheroot.server:HTTPServer._connections",
        True,
        "media_server/http_server.py",
        "it is the connection manager of a server",
        lambda path: "self._connections = connections.ConnectionManager(self)"
        in inspect.getsource(importlib.import_module("cheroot.server").HTTPServer.prepare),
    ),
    Part(
        "cheroot",
        "cheroot.server:HTTPServer.process_conn",
        "self, conn",
        "media_server/http_server.py",
        "every connection passes it, and a new one gets no thread before it says something",
    ),
    Part(
        "cheroot",
        "cheroot.server:HTTPConnection.__init__",
        "self, server, sock, makefile",
        "media_server/http_server.py",
        "the files of a connection are ours, which keep its deadlines",
    ),
    Part(
        "cheroot",
        "cheroot.makefile:StreamReader.__init__",
        "self, sock, mode, bufsize",
        "media_server/http_server.py",
        "ours leaves it out, and sets what it sets: bytes_read",
    ),
    Part(
        "cheroot",
        "cheroot.makefile:StreamWriter.__init__",
        "self, sock, mode, bufsize",
        "media_server/http_server.py",
        "ours leaves it out, and sets what it sets: bytes_written",
    ),
    Part(
        "cheroot",
        "cheroot.ssl.builtin:BuiltinSSLAdapter.wrap",
        "self, sock",
        "media_server/http_server.py",
        "ours leaves the handshake to the thread that serves the connection",
    ),
    Part(
        "WebOb",
        "webob._parsed_post_vars",
        {"title": "Tom"},
        "upload/handoff.py",
        "WebOb does not parse a form again that was parsed",
        parsed_form,
    ),
    Part(
        "WebOb",
        "webob.compat:cgi_FieldStorage",
        True,
        "upload/handoff.py",
        "it is what WebOb shows for a file",
        lambda path: inspect.isclass(cgi_FieldStorage) and {"filename", "file", "type"} <= set(
            inspect.signature(cgi_FieldStorage).parameters
        ) | set(vars(cgi_FieldStorage(fp=io.BytesIO(), environ={}))),
    ),
    Part(
        "Python",
        "http.client:HTTPResponse",
        (5, False, True, 3),
        "transports/http/reply.py",
        "it reads the head of a reply that is not of the usual form, and a body as it comes",
        head_of_a_reply,
    ),
]  # fmt: skip


def version_of(library: str) -> str:
    return sys.version.partition(" ")[0] if library == "Python" else metadata.version(library)


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_part_that_is_not_documented_is_where_it_was(part: Part) -> None:
    """If not: change what uses it, or do without, and then raise the bound in setup.cfg."""
    told = f"{part.library} {version_of(part.library)}: {part.what} has moved; {part.used_in} needs it: {part.why}"
    try:
        found = part.holds(part.what)
    except Exception as error:
        pytest.fail(f"{told} ({type(error).__name__}: {error})")
    assert found == part.expected, told


@pytest.mark.parametrize("library", sorted({part.library for part in PARTS} - {"Python"}))
def test_a_library_whose_parts_are_used_has_an_upper_bound(library: str) -> None:
    """So that a user gets no version that nobody has tried; the one that is installed is within."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    wanted = [Requirement(found) for text in lines for line in text.split("\n") if (found := line.partition("#")[0])]
    (bounded,) = [each for each in wanted if each.name == library and each.specifier]
    assert any(each.operator == "<" for each in bounded.specifier)
    assert version_of(library) in bounded.specifier


def foreign_names(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """The names with an underscore that a module uses, and nothing of ours defines; not those in annotations."""
    annotations = {id(each) for node in ast.walk(tree) if (note := getattr(node, "annotation", None))
                   for each in ast.walk(note)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in annotations:
            name = node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.rpartition(".")[2]
        else:
            continue
        if re.fullmatch(r"_[a-z]\w*", name) and name not in own | DOCUMENTED:
            yield name


def own_names(trees: list[ast.Module]) -> set[str]:
    """Every name that is defined, assigned or an argument anywhere in the package."""
    own: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            own.add(node.id if isinstance(node, ast.Name) else node.attr)
    return own


def test_no_other_private_part_is_used() -> None:
    """A name of somebody else that begins with an underscore is in the table, or in none of our modules."""
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    own = own_names(list(trees.values()))
    found = {
        (str(path.relative_to(PACKAGE)), name) for path, tree in trees.items() for name in foreign_names(tree, own)
    }
    known = {(part.used_in, re.split(r"[.:]", part.what)[-1]) for part in PARTS}
    assert found - known == set()
    private = {(where, name) for where, name in known if re.match(r"_[a-z]", name)}
    assert private - found == set(), "no longer used: take it out of the table"


def test_no_private_method_of_another_class_is_overridden() -> None:
    """A method of ours would be called, or no longer be, as somebody else pleases."""
    overridden = set()
    for module in pkgutil.walk_packages(resto_wsgi.__path__, "resto_wsgi."):
        if module.name.endswith("__main__"):
            continue
        for ours in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(ours) and ours.__module__ == module.name:
                bases = [base for base in ours.__mro__[1:] if not base.__module__.startswith("resto_wsgi")]
                names = {name for name, value in vars(ours).items() if inspect.isfunction(value)}
                overridden |= {
                    f"{module.name}.{ours.__name__}.{name}"
                    for name in names
                    if re.fullmatch(r"_[a-z]\w*[a-z]", name) and any(name in vars(base) for base in bases)
                }
    assert overridden == set()
