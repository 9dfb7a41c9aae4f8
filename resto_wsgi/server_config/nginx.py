"""nginx: a whole nginx.conf for one site, with the fall-back of reads to other media servers, or to children.

One table (``map``) decides from method, address and URL what is refused, so that the rules can be read in one place;
the fall-back is ``error_page`` and not ``try_files``, which would pass on the PUT of every new file.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ConfigError, shown
from ..hosts import Host
from . import quoting
from .site import ATTACHED, OTHER_TYPE, SANDBOX, TYPES, VIEWED, YEAR, Site

__all__ = ["FallBack", "configure"]

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"  # those that everybody trusts, on Debian


@dataclass(frozen=True, kw_only=True)
class FallBack:
    """Whom a read that is a 404 here is passed to: ``hosts``, all below one path and of one scheme.

    A request is passed on ``hops`` times at most: 1 among equals, the height of a tree. ``ca`` and ``name`` verify
    their certificates, if they have any; all of them have to bear that one name.
    """

    hosts: Sequence[Host]
    hops: int = 1
    ca: str = AUTHORITIES
    name: str | None = None


def configure(
    site: Site, fall_back: FallBack | None = None, *, node_port: int | None = None, complete: bool = True
) -> str:
    """Return the configuration as text, or with ``complete`` False only what belongs into ``http { }``.

    ``node_port`` is that of our own node on loopback, which takes the writes, for a server of a tree.
    """
    if fall_back is not None and not fall_back.hosts:
        fall_back = None
    path = _joined(fall_back, site) if fall_back else None
    http = "\n".join(
        part
        for part in (
            _tables(site),
            _types(site) if fall_back else "",
            _upstream(fall_back) if fall_back else "",
            _node_upstream(node_port) if node_port else "",
            _server(site, fall_back, path, node_port),
        )
        if part
    )
    head = _head(site, node_port, complete)
    return f"{head}\n{_main(site)}\nhttp {{\n{_indented(_http(site) + http)}}}\n" if complete else f"{head}\n{http}"


def _head(site: Site, node_port: int | None, complete: bool) -> str:
    place = "/etc/nginx/nginx.conf" if complete else "a file in /etc/nginx/conf.d/"
    stored = "They are there before nginx starts" if node_port else f"{site.temp} is made by nginx"
    folders = [site.root, *([site.run] if site.run and complete else [])]
    return f"""\
# A media server, for {place}; printed by `resto config nginx`, which prints it anew when a setting changes.
# Needs: {site.prepare(*folders)}
# {stored}.
"""


def _main(site: Site) -> str:
    user = f"user {site.user};\n" if site.user else ""
    run = site.run
    pid = quoting.nginx("run", f"{run}/nginx.pid") if run else "/run/nginx.pid"
    log = quoting.nginx("run", f"{run}/error.log") if run else "/var/log/nginx/error.log"
    return f"""\
{user}worker_processes auto;
pid {pid};
error_log {log};

events {{
    worker_connections 1024;
}}
"""


def _http(site: Site) -> str:
    log = quoting.nginx("run", f"{site.run}/access.log") if site.run else "/var/log/nginx/access.log"
    own = ""
    if site.run:
        for each in ("proxy", "fastcgi", "uwsgi", "scgi"):
            own += f"{each}_temp_path {quoting.nginx('run', f'{site.run}/{each}')};\n"
    return f"""\
access_log {log};
{own}sendfile on;
tcp_nopush on;
server_tokens off;

"""


def _tables(site: Site) -> str:
    """Who may do what, and the headers that depend on the name."""
    parts = [
        "# The application servers: whoever may write can replace every file.\n" + _geo("resto_writer", site.writers),
        "# Who may list folders: the application servers too, to compare.\n" + _geo("resto_lister", site.listers),
    ]
    certified = ""
    if site.client_ca:
        certified = "$resto_certified"
        parts.append(
            "# Writers show a certificate of the authority below, too.\n"
            "map $ssl_client_verify $resto_certified {\n    default 0;\n    SUCCESS 1;\n}\n"
        )
    any_certified, one = (".", "1") if certified else ("", "")
    parts.append(f"""\
# What is allowed, from method, writer, lister{", certificate" if certified else ""} and URL. A folder ends with a
# slash: it is listed, and never written, for DELETE would remove all that is in it.
map "$request_method $resto_writer$resto_lister{certified} $uri" $resto_refused {{
    default 1;
    "~(?s)^(GET|HEAD) ..{any_certified} .*[^/]\\z" 0;
    "~(?s)^(GET|HEAD) .1{any_certified} .*/\\z" 0;
    "~(?s)^(PUT|DELETE) 1.{one} .*[^/]\\z" 0;
}}
""")
    parts.append("""\
# A read has no body. nginx would put one on the disk, whoever sent it, before it asks another server for the file.
map "$request_method $http_transfer_encoding$http_content_length" $resto_body {
    default 0;
    "~^(GET|HEAD) 0*\\z" 0;
    "~^(GET|HEAD) " 1;
}
""")
    if site.immutable:
        parts.append(f"""\
# With naming="{site.naming}" such a name never gets other content; all else is asked for again each time.
map $uri $resto_cache_control {{
    default no-cache;
    "~{site.immutable}" "public, max-age={YEAR}, immutable";
}}
""")
    parts.append("""\
# What is not here may come in a moment, and be with another server now, which was perhaps not asked.
map $status $resto_not_found {
    default "";
    404 no-store;
}
""")
    parts.append(f"""\
# SVG can hold scripts: pages show it, but nobody opens it on this site.
map $uri $resto_disposition {{
    default "";
    "~{ATTACHED}" attachment;
}}
# A browser does not open its viewer of PDF in a sandbox.
map $uri $resto_policy {{
    default "{SANDBOX}";
    "~{VIEWED}" "";
}}
""")
    return "\n".join(parts)


def _types(site: Site) -> str:
    """The type of what comes from another server: by our table, whatever that server says."""
    lines = ""
    for kind, endings in TYPES.items():
        charset = "; charset=utf-8" if kind.startswith("text/") else ""
        lines += f'    "~(?i)\\.({"|".join(endings)})$" "{kind}{charset}";\n'
    return f"""\
# What another server sends is of the type that it would have here, so that nothing runs that is downloaded here.
map $uri $resto_type {{
    default {OTHER_TYPE};
{lines}}}
# Several ranges in one answer are told apart by what is in their type.
map $upstream_http_content_type $resto_passed_type {{
    default $resto_type;
    "~^multipart/byteranges; *boundary=[0-9A-Za-z]+$" $upstream_http_content_type;
}}
"""


def _headers(site: Site) -> str:
    """The headers of whatever is answered. A location that adds one of its own has none of these from above."""
    cache = "$resto_cache_control" if site.immutable else "no-cache"
    return f"""\
add_header X-Content-Type-Options nosniff always;
add_header Cache-Control "{cache}";
add_header Cache-Control $resto_not_found always;
add_header Content-Disposition $resto_disposition;
add_header Content-Security-Policy $resto_policy always;
"""


def _geo(variable: str, networks: Sequence[str]) -> str:
    lines = "".join(f"    {each} 1;\n" for each in networks)
    return f"geo ${variable} {{\n    default 0;\n{lines}}}\n"


def _upstream(fall_back: FallBack) -> str:
    servers = "".join(f"    server {_authority(each)} fail_timeout=30s;\n" for each in fall_back.hosts)
    return f"""\
# A name here that nginx cannot resolve keeps it from starting: use addresses, or /etc/hosts.
upstream resto_others {{
    zone resto_others 256k;  # what one worker found dead, no other asks for as long
{servers}    keepalive 16;
}}
"""


def _node_upstream(port: int) -> str:
    return f"""\
# `resto media-server` on this machine: it stores what is written, and passes it on to its children.
upstream resto_node {{
    server 127.0.0.1:{port};
    keepalive 16;
}}
"""


def _server(site: Site, fall_back: FallBack | None, path: str | None, node_port: int | None) -> str:
    elsewhere = "" if not site.path else "\n    location / {\n        return 404;\n    }\n"
    locations = _media(site, bool(fall_back), node_port)
    if fall_back:
        locations += "\n" + _others(site, fall_back)
    if node_port:
        locations += "\n" + _writes(site)
    return f"""\
server {{
    listen {_listen(site)};
{_indented(_tls(site))}    client_max_body_size {site.max_body};  # not less than max_file_size of the application
{_indented(_headers(site))}    absolute_redirect off;
    recursive_error_pages on;

    # .resto, temporary files, whatever is hidden: not for reading, and not for writing.
    location ~ "/\\." {{
        return 404;
    }}

{_indented(locations)}{elsewhere}}}
"""


def _listen(site: Site) -> str:
    where = f"{site.shown_address}:{site.port}" if site.address else f"{site.port}"
    tls = " ssl" if site.certificate else ""
    return f"{where}{tls}{' ipv6only=off' if site.address == '::' else ''}"


def _tls(site: Site) -> str:
    if not (site.certificate and site.key):
        return ""
    verify = ""
    if site.client_ca:
        ca = quoting.nginx("client_ca", site.client_ca)
        verify = f"ssl_client_certificate {ca};\nssl_verify_client optional;  # readers need none\n"
    return f"""\
ssl_certificate {quoting.nginx("certificate", site.certificate)};
ssl_certificate_key {quoting.nginx("key", site.key)};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_session_cache shared:resto:1m;
{verify}"""


def _media(site: Site, falls_back: bool, node_port: int | None) -> str:
    root = quoting.nginx("root", f"{site.root}/")
    types = "\n".join(f"        {kind} {' '.join(endings)};" for kind, endings in TYPES.items())
    missing = "error_page 404 = @resto_others;  # a file that is still owed to this server\n    " if falls_back else ""
    if node_port:
        writing = """\
    # The node keeps the truth of what its children took; nginx would answer before it knew.
    error_page 418 = @resto_node;
    if ($request_method !~ "^(GET|HEAD)$") {
        return 418;
    }
"""
    else:
        writing = f"""\
    dav_methods PUT DELETE;
    dav_access user:rw group:r all:r;
    create_full_put_path on;
    # On the file system of the root: else a reader could see part of a file, for the last step is no rename.
    client_body_temp_path {quoting.nginx("temp", site.temp)};
"""
    return f"""\
location {site.path}/ {{
    if ($resto_refused) {{
        return 403;
    }}
    if ($resto_body) {{
        return 400;
    }}
    alias {root};
{writing}
    # Folders are compared name by name; no file may stand for one, as index.html would.
    autoindex on;
    autoindex_format json;
    index .none;

    # HTML and scripts are downloaded: they must not run on this site.
    types {{
{types}
    }}
    default_type {OTHER_TYPE};
    charset utf-8;
    charset_types text/plain text/css text/csv;

    {missing}log_not_found off;
}}
"""


def _others(site: Site, fall_back: FallBack) -> str:
    return f"""\
# Reads of what is not here, from the media servers that may have it already. A file whose delete is still owed
# to one of them may be seen here until then. Writes, folders, and the application, which asks what is on this
# very server, are answered from here alone; so is what was passed on {_times(fall_back.hops)} already: no circles.
location @resto_others {{
    if ($request_method !~ "^(GET|HEAD)$") {{
        return 404;
    }}
    if ($uri ~ "(?s)/\\z") {{
        return 404;
    }}
    if ($http_user_agent = "resto_wsgi") {{
        return 404;
    }}
    if ($http_resto_passed_on ~ "[+]{{{fall_back.hops}}}") {{
        return 404;
    }}
    proxy_pass {_scheme(fall_back)}://resto_others;
{_indented(_verification(fall_back))}    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header Resto-Passed-On "$http_resto_passed_on+";
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    proxy_next_upstream error timeout http_404 http_500 http_502 http_503 http_504;
    proxy_next_upstream_timeout 10s;
    proxy_connect_timeout 1s;
    proxy_read_timeout 5s;
    proxy_max_temp_file_size 0;
    # What a file is allowed in a browser is for this server to say.
    proxy_hide_header X-Content-Type-Options;
    proxy_hide_header Cache-Control;
    proxy_hide_header Content-Disposition;
    proxy_hide_header Content-Security-Policy;
    proxy_hide_header Content-Type;
    add_header Content-Type $resto_passed_type;
{_indented(_headers(site))}    error_page 500 502 503 504 = @resto_nowhere;
}}

# The others do not have it, or are away.
location @resto_nowhere {{
    return 404;
}}
"""


def _writes(site: Site) -> str:
    path = site.path.replace(".", "[.]")
    certified = "    if ($resto_certified = 0) {\n        return 403;\n    }\n" if site.client_ca else ""
    return f"""\
# The node's own pages: what the tree owes and holds.
location ~ "^{path}/__(missing__|index__|readme[.]txt)$" {{
    if ($resto_writer = 0) {{
        return 403;
    }}
{certified}    error_page 418 = @resto_node;
    return 418;
}}

location @resto_node {{
    rewrite "(?s)^{path}(/.*)\\z" $1 break;
    proxy_pass http://resto_node;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header Resto-Called "$scheme://$http_host{site.path}";  # for its pages and reports
    proxy_request_buffering off;
    proxy_next_upstream off;  # a write is not repeated by anybody but the application
    proxy_connect_timeout 1s;
    proxy_read_timeout 300s;  # the whole tree has to answer
    proxy_hide_header X-Content-Type-Options;
    proxy_hide_header Content-Security-Policy;
}}
"""


def _verification(fall_back: FallBack) -> str:
    if _scheme(fall_back) == "http":
        return ""
    names = {urlsplit(each.url).hostname or "" for each in fall_back.hosts}
    if fall_back.name is None and len(names) > 1:
        raise ConfigError("peer_name", "is needed: the name in the certificates of all the other media servers")
    name = quoting.nginx("peer_name", fall_back.name or names.pop())
    return f"""\
proxy_ssl_verify on;
proxy_ssl_verify_depth 3;
proxy_ssl_trusted_certificate {quoting.nginx("peer_ca", fall_back.ca)};
proxy_ssl_name {name};
proxy_ssl_server_name on;
"""


def _joined(fall_back: FallBack, site: Site) -> str:
    """Return the path that all hosts share with this site: nginx passes a URL on as it came."""
    parts = {(urlsplit(each.url).scheme, urlsplit(each.url).path) for each in fall_back.hosts}
    if len(parts) > 1 or {path for _, path in parts} != {site.path}:
        found = ", ".join(shown(each.url) for each in fall_back.hosts)
        raise ConfigError(
            "media_hosts",
            f"nginx can fall back only to servers of one scheme, with names below {site.path or '/'} as here, "
            f"not to {found}; leave it out with --no-fall-back",
        )
    return site.path


def _scheme(fall_back: FallBack) -> str:
    return urlsplit(fall_back.hosts[0].url).scheme


def _authority(host: Host) -> str:
    parts = urlsplit(host.url)
    return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")
