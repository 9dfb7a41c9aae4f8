"""A tree of media servers as it is written on the command line: ``a:8080(b:8080(d:8080,e:8080),c:8080)``.

A node is written as in RESTO_MEDIA_HOSTS, its children follow in parentheses. No host may be there twice, so there is
no circle that a request could run in. Strings only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import ConfigError, shown
from ..hosts import Host, parse_hosts

__all__ = ["Node", "parse_tree"]

MAX_NODES = 1000  # more is a mistake, and each is a file
MAX_LEVELS = 16  # a request passes through all of them

_WORD = re.compile(r"\s*([(),]|[^\s(),]+)\s*")


@dataclass
class Node:
    """One media server of a tree, ``parent`` None for the root of it; ``level`` is 0 there."""

    host: Host
    parent: Node | None = None
    level: int = 0
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def height(self) -> int:
        """How many levels there are below this node."""
        return max((1 + child.height for child in self.children), default=0)

    @property
    def file_name(self) -> str:
        """The host in a form that is the beginning of a file's name."""
        return re.sub(r"[^A-Za-z0-9.-]+", "_", self.host.label.partition("://")[2] or self.host.label).strip("_.")


def parse_tree(text: str, media_url: str) -> Node:
    """Return the root of the tree that ``text`` writes; raise ConfigError if it writes none."""
    words = _WORD.findall(text)
    if _WORD.sub("", text):
        raise _unreadable(text)
    hosts = iter(_hosts([word for word in words if word not in "(),"], media_url))
    root: Node | None = None
    above: list[Node] = []
    last: Node | None = None  # the node before, if a parenthesis or a comma has to come now
    for word in words:
        if word == "(" and last is not None and not last.children:
            above.append(last)
            last = None
        elif word == ")" and above and last is not None:
            last = above.pop()
        elif word == "," and above and last is not None:
            last = None
        elif word not in "()," and last is None and (above or root is None):
            last = _add(next(hosts), above)
            root = root or last
        else:
            raise _unreadable(text)
    if root is None or above:
        raise _unreadable(text)
    return root


def _hosts(specs: list[str], media_url: str) -> tuple[Host, ...]:
    if len(specs) > MAX_NODES:
        raise ConfigError("tree", f"has {len(specs)} nodes; at most {MAX_NODES} are taken")
    try:
        return parse_hosts(specs, media_url)
    except ConfigError as error:
        raise ConfigError("tree", error.problem) from None


def _add(host: Host, above: list[Node]) -> Node:
    if len(above) >= MAX_LEVELS:
        raise ConfigError("tree", f"has more than {MAX_LEVELS} levels")
    node = Node(host, above[-1] if above else None, len(above))
    if above:
        above[-1].children.append(node)
    return node


def _unreadable(text: str) -> ConfigError:
    return ConfigError("tree", f"takes NODE(CHILD,CHILD(GRANDCHILD)), such as a:8080(b:8080,c:8080), not {shown(text)}")
