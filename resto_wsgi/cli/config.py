"""`resto config`: configurations of media servers and units, printed from the settings and the options.

Reads the environment and makes a ``Site`` of it; the text comes from ``server_config``. Nothing is written but to
standard output, or with ``--output`` into a folder.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from ..config import Settings, settings_table
from ..errors import ConfigError, shown
from ..hosts import Host, public_url
from ..server_config import Node, Site, apache, lighttpd, nginx, parse_tree, systemd
from ..trust.networks import parse_address
from .listen import parse_listen

__all__ = ["print_apache", "print_lighttpd", "print_nginx", "print_systemd"]

NODE_PORT = 1000  # added to nginx's port, for our own node behind it
UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def print_nginx(
    options: dict[str, Any],
    *,
    fall_back: bool,
    peers: dict[str, Any],
    complete: bool,
    tree: str | None,
    output: str | None,
    command: str | None,
) -> None:
    """Print nginx.conf for one media server, or for each node of a tree with the unit that takes its writes."""
    if tree is not None:
        _deliver(_nginx_tree(options, tree, peers, complete, _command(command)), output)
        _warn_of_names([child.host for node in parse_tree(tree, "/").walk() for child in node.children])
        return
    settings = _settings(options)
    site, host = _site(options, settings)
    others = [each for each in settings.hosts if each != host] if host is not None and fall_back else []
    text = nginx.configure(site, nginx.FallBack(hosts=others, **peers) if others else None, complete=complete)
    _deliver({"nginx.conf": text}, output)
    _warn_of_names(others)


def print_lighttpd(options: dict[str, Any], *, output: str | None) -> None:
    """Print lighttpd.conf."""
    _deliver({"lighttpd.conf": lighttpd.configure(_site(options, _settings(options))[0])}, output)


def print_apache(options: dict[str, Any], *, modules: str, output: str | None) -> None:
    """Print Apache's configuration."""
    _deliver({"apache.conf": apache.configure(_site(options, _settings(options))[0], modules)}, output)


def print_systemd(options: dict[str, Any], *, command: str | None, tree: str | None, output: str | None) -> None:
    """Print the units: of `resto drain` and of our own media server, or of each node of a tree."""
    settings, command = _settings(options), _command(command)
    if tree is not None:
        _deliver(_node_units(options, settings, tree, command), output)
        return
    ours = {name: os.environ[name] for _, name, *_ in settings_table() if name in os.environ}
    ours["MEDIA_ROOT"] = os.environ.get("MEDIA_ROOT", settings.media_root)
    outbox = [os.path.dirname(settings.outbox)] if settings.outbox else []
    units = systemd.drain(command, ours, options["user"], [ours["MEDIA_ROOT"], *outbox])
    units |= systemd.media_server(command, _node_site(options, settings))
    _deliver(units, output)


def _nginx_tree(
    options: dict[str, Any], tree: str, peers: dict[str, Any], complete: bool, command: str
) -> dict[str, str]:
    settings = _settings(options)
    top = parse_tree(tree, settings.media_url)
    files: dict[str, str] = {}
    for node in top.walk():
        site = _node_of_tree(_site(options, settings, node.host)[0], node)
        port = site.port + NODE_PORT
        if port > 65535:
            raise ConfigError("tree", f"port {site.port} leaves none for the node, at {NODE_PORT} above it")
        children = [each.host for each in node.children]
        down = nginx.FallBack(hosts=children, hops=top.height, **peers) if children else None
        behind = Site(root=site.root, path="", address="127.0.0.1", port=port, user=site.user)
        name = urlsplit(node.host.url).netloc  # nginx passes on by which name it was called
        units = systemd.media_server(command, behind, [each.url for each in children], [name])
        text = nginx.configure(site, down, node_port=port, complete=complete)
        _add(files, node, {"nginx.conf": text, **units})
    return files


def _node_units(options: dict[str, Any], settings: Settings, tree: str, command: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for node in parse_tree(tree, "/").walk():
        parts = urlsplit(node.host.url)
        if parts.scheme != "http" or parts.path:
            raise ConfigError(
                "tree", f"{shown(node.host.label)}: our own media server takes HOST:PORT and nothing else"
            )
        site = _node_of_tree(replace(_node_site(options, settings), port=parts.port or 80), node)
        _add(files, node, systemd.media_server(command, site, [each.host.url for each in node.children]))
    return files


def _node_of_tree(site: Site, node: Node) -> Site:
    """Return the site of a node; its parent may write there, if it is named by its address."""
    parent = urlsplit(node.parent.host.url).hostname if node.parent else None
    address = parse_address(parent or "")
    if address is None:
        return site
    return replace(site, writers=(*site.writers, str(address)), listers=(*site.listers, str(address)))


def _add(files: dict[str, str], node: Node, parts: Mapping[str, str]) -> None:
    for name, text in parts.items():
        own = f"{node.file_name}.{name}"
        if own in files:
            raise ConfigError("tree", f"two nodes would have the file {own}; write one of them in another way")
        files[own] = text


def _warn_of_names(hosts: Sequence[Host]) -> None:
    """Say on stderr which hosts have to be known before nginx starts: it stops at a name that is not in DNS yet."""
    names = [name for each in hosts if parse_address(name := urlsplit(each.url).hostname or "") is None]
    if names:
        print(
            f"resto: nginx does not start while it cannot resolve {', '.join(dict.fromkeys(names))} "
            "(host not found in upstream): have them in DNS or /etc/hosts there, or use addresses, or --no-fall-back",
            file=sys.stderr,
        )


def _settings(options: dict[str, Any]) -> Settings:
    environ = dict(os.environ)
    if options["root"]:
        environ.setdefault("MEDIA_ROOT", options["root"])
    elif not environ.get("MEDIA_ROOT"):
        raise ConfigError("root", "is required: give the absolute path of the folder to serve, or set MEDIA_ROOT")
    return Settings.from_environ(environ)


def _node_site(options: dict[str, Any], settings: Settings) -> Site:
    """Return what our own media server is to do: names hang below / there."""
    return replace(_site({**options, "host": None}, settings)[0], path="")


def _site(options: dict[str, Any], settings: Settings, host: Host | None = None) -> tuple[Site, Host | None]:
    """Return what the options ask for, and which of the media servers it is, None if they do not say."""
    if host is None and options.get("host"):
        host = _named(options["host"], settings)
    parts = urlsplit(host.url if host is not None else public_url(settings.media_url))
    address, port = _listen(options["listen"]) if options["listen"] else ("", _port_of(host, options))
    site = Site(
        root=options["root"] or settings.media_root,
        path=unquote(parts.path.rstrip("/"), errors="replace"),
        address=address,
        port=port,
        max_body=_bytes(options.get("max_body", "1g")),
        writers=options["allow"] or Site.writers,
        listers=options.get("list") or (),
        temp=options.get("temp") or "",
        user=options["user"],
        **{each: options.get(each) for each in ("naming", "certificate", "key", "client_ca", "run")},
    )
    _check_device(site)
    return site, host


def _named(label: str, settings: Settings) -> Host:
    for host in settings.hosts:
        if label.rstrip("/") in (host.label, host.url):
            return host
    raise ConfigError("host", f"{shown(label)} is not in RESTO_MEDIA_HOSTS; write it as it is there")


def _port_of(host: Host | None, options: dict[str, Any]) -> int:
    if host is None:
        return Site.port
    parts = urlsplit(host.url)
    if parts.scheme == "https" and not options.get("certificate"):
        raise ConfigError("certificate", f"is needed for {shown(host.label)}, or --listen for what is behind a proxy")
    return parts.port or (443 if parts.scheme == "https" else 80)


def _listen(text: str) -> tuple[str, int]:
    try:
        return parse_listen(text)
    except ValueError:
        raise ConfigError("listen", f"takes [ADDRESS:]PORT, such as 8080 or [::]:8080, not {shown(text)}") from None


def _bytes(text: str) -> int:
    match = re.fullmatch("([0-9]{1,15})([kmg]?)", text.strip().lower())
    if match is None:
        raise ConfigError("max_body", f"takes bytes, such as 1048576, 64k, 20m or 1g, not {shown(text)}")
    return int(match[1]) * UNITS.get(match[2], 1)


def _check_device(site: Site) -> None:
    """Raise ConfigError if root and temp are here, and on two file systems."""
    try:
        same = os.stat(site.root).st_dev == os.stat(site.temp).st_dev
    except OSError:
        return  # they are on another machine, or not made yet
    if not same:
        raise ConfigError("temp", "is on another file system than the root; a reader could see part of a file")


def _command(command: str | None) -> str:
    found = command or shutil.which("resto") or os.path.abspath(sys.argv[0])
    return os.path.abspath(found)


def _deliver(files: Mapping[str, str], output: str | None) -> None:
    """Print the files, each under its name if there are several; or write them into a folder."""
    if output is None:
        for name, text in files.items():
            print(f"# ==== {name} ====\n{text}" if len(files) > 1 else text, end="" if len(files) == 1 else "\n")
        return
    try:
        os.makedirs(output, exist_ok=True)
        for name, text in files.items():
            with open(os.path.join(output, name), "w", encoding="utf-8") as file:
                file.write(text)
            print(os.path.join(output, name))
    except OSError as error:
        raise ConfigError("output", f"cannot be written: {error.strerror}") from error
