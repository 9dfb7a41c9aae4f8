"""What to change for each finding, on each kind of server: the line of its configuration if there is one.

A key is that of the finding, or ``key:cause`` if several things can cause it. ``{address}`` is the address that we
write from, as this machine sees it, ``{network}`` the same as a network, ``{largest}`` the bytes of the largest file
that is accepted, ``{largest_kib}`` the KiB. If an option of `resto config` prints that line, it is named too.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

from ..transports.http.errand import REFUSED
from ..trust.networks import parse_address

__all__ = ["KINDS", "remedy"]
KINDS = {
    "nginx": "nginx",
    "lighttpd": "lighttpd",
    "apache": "Apache",
    "node": "resto_wsgi's own node",
    "unknown": "an unknown server",
}
ANY = "any"  # the kind of a remedy that is the same everywhere
_STOCK = ("nginx", "lighttpd", "apache")
_OPTIONS = {  # of resto config, for these
    "write:403": "--allow {address}",
    "write:413": "--max-body {largest}",
    "size": "--max-body {largest}",
    "credentials": "--allow {address}",
}

_WRITERS = {
    "nginx": "geo $resto_writer {{ default 0; {network} 1; }}",
    "lighttpd": '$HTTP["remote-ip"] == "{network}" {{ }} else {{ url.access-deny = ("") }}',
    "apache": "Require ip {network}",
    "node": "--allow {address}",
    ANY: "allow PUT and DELETE from {address} only",
}
_DOTS = {
    "nginx": 'location ~ "/\\." {{ return 404; }}',
    "lighttpd": '$HTTP["url"] =~ "/\\." {{ url.access-deny = ("") }}',
    "apache": '<LocationMatch "/\\."> Require all denied </LocationMatch>',
    ANY: "do not serve what begins with a dot: .resto holds what is not published",
}
_LIMITS = {
    "nginx": "client_max_body_size {largest};",
    "lighttpd": "server.max-request-size = {largest_kib}",
    "apache": "LimitRequestBody {largest}",
    ANY: "raise its limit of the body size to the largest file that is accepted, or lower max_file_size",
}
_ONE_ROOT = "several application servers share one MEDIA_ROOT, or have a path each"
_DIRECT = "give the address of the media server itself in RESTO_MEDIA_HOSTS, not that of what stands before it"
_FULL = "free space on its disk, or raise the quota"

_REMEDIES: Mapping[str, Mapping[str, str]] = {
    "reachable": {
        ANY: "start it; look at its address and port in RESTO_MEDIA_HOSTS, at the firewall, and at RESTO_TIMEOUT"
    },
    "master": {ANY: "give it a folder of its own, or set the mode to hybrid (RESTO_MODE)"},
    "reachable:protocol": {ANY: "look at the port in RESTO_MEDIA_HOSTS: this one does not speak HTTP as it should"},
    "reachable:https": {
        ANY: "write it as a full URL in RESTO_MEDIA_HOSTS: https://HOST:PORT and the path of MEDIA_URL"
    },
    "reachable:http": {ANY: "in RESTO_MEDIA_HOSTS give the port on which it speaks TLS, or write its URL with http://"},
    "reachable:redirect": {ANY: "redirects are never followed: give the final URL in RESTO_MEDIA_HOSTS"},
    "reachable:lost": {ANY: "find out why it went away, in its error log, and check again"},
    "reachable:slow": {ANY: "check again with a larger --timeout"},
    "tls": {
        ANY: "renew the certificate, for the host name in RESTO_MEDIA_HOSTS and with the extensions of RFC 5280, from"
        " an authority that this machine trusts or that is in RESTO_CA_BUNDLE; if it wants one of ours, give it in"
        " RESTO_CLIENT_CERT"
    },
    "tls:version": {
        "nginx": "ssl_protocols TLSv1.2 TLSv1.3;",
        "lighttpd": 'ssl.openssl.ssl-conf-cmd = ("MinProtocol" => "TLSv1.2")',
        "apache": "SSLProtocol all -SSLv3 -TLSv1 -TLSv1.1",
        ANY: "allow TLS 1.2 and later only",
    },
    "clock": {ANY: "run an NTP client (chrony or systemd-timesyncd) there and here"},
    "absent": {ANY: "a name that is not there has to be answered with 404: " + _DIRECT},
    "write": {ANY: "its error log says why; look also whether its disk is full"},
    "write:401": {ANY: "it wants credentials: give them in the file of RESTO_CREDENTIALS_FILE, or admit {address}"},
    **{f"write:401:{shown}": {ANY: cure} for shown, cure in REFUSED.items() if shown},
    "write:403": {
        **{kind: f"{_WRITERS[kind]}, and let its user write: chown -R www-data /srv/media" for kind in _STOCK},
        "lighttpd": _WRITERS["lighttpd"]
        + ', and let its user write: chown -R www-data /srv/media; and webdav.is-readonly = "disable"',
        "node": "start it with --allow {address}",
        ANY: "allow PUT and DELETE from {address}, and let the server's user write to its folder",
    },
    "write:404": {
        "lighttpd": 'server.modules += ("mod_webdav") and webdav.activate = "enable"',
        ANY: "the folder that names hang below is not there: look at the path in RESTO_MEDIA_HOSTS or MEDIA_URL",
    },
    "write:405": {
        "nginx": "dav_methods PUT DELETE; (an nginx with ngx_http_dav_module, as in Debian's package nginx)",
        "lighttpd": 'server.modules += ("mod_webdav") and webdav.activate = "enable", webdav.is-readonly = "disable"',
        "apache": "a2enmod dav_fs, and in the <Location>: Dav On",
        ANY: "enable PUT and DELETE (WebDAV)",
    },
    "write:413": _LIMITS,
    "write:500": {
        "nginx": "create_full_put_path on; and let its user write (chown -R www-data); or its disk is full",
        "lighttpd": "let its user write to root and server.upload-dirs (chown -R www-data); or its disk is full",
        "apache": "let its user write to the root and to DavLockDB (chown -R www-data); or its disk is full",
        "node": "let its user write to --root; its output says why",
        ANY: "let its user write to its folders; its error log says why; or its disk is full",
    },
    "write:507": {ANY: _FULL},
    "write:kept": {ANY: "what answers does not keep what it is sent: " + _DIRECT},
    "write:folders": {ANY: "let a path be the path of a file: no rewriting that drops a part of it"},
    "parents": {
        "nginx": "create_full_put_path on;",
        "lighttpd": 'let MKCOL pass: webdav.is-readonly = "disable", and let its user write to the root',
        "apache": "let MKCOL pass, in <LimitExcept> too, and let its user write to the root",
        ANY: "make missing folders on PUT, or allow MKCOL",
    },
    "overwrite": {ANY: "allow PUT on a file that is there"},
    "overwrite:stale": {ANY: "a cache answers in its place: " + _DIRECT},
    "delete": {
        "nginx": "dav_methods PUT DELETE;",
        "lighttpd": 'webdav.is-readonly = "disable"',
        "apache": "<LimitExcept> and Require must let DELETE pass",
        ANY: "allow DELETE; a name that is not there is answered with 404",
    },
    "delete:stale": {ANY: "a cache answers in its place: " + _DIRECT},
    "folder": {ANY: "refuse DELETE of a folder: a name that became a folder would take its whole tree away"},
    "tree": {
        **{kind: f"resto never sends it, others could: resto config {kind} prints what refuses it" for kind in _STOCK},
        ANY: "resto never sends it, others could: see that only your application servers may write",
    },
    "atomic": {
        "nginx": "client_body_temp_path in a folder on the file system of the root",
        "lighttpd": "server.upload-dirs on the file system of the root",
        ANY: "write aside and rename, as nginx, lighttpd, Apache and resto_wsgi's node do",
    },
    "temporary": {
        "nginx": "see to it yourself: client_body_temp_path on the file system of the root",
        "lighttpd": "see to it yourself: server.upload-dirs on the file system of the root",
        ANY: "see to it yourself: bodies are kept aside on the file system of the root",
    },
    "truncated": {ANY: "use a server that drops a body that is shorter than its Content-Length"},
    "mtime": {
        "lighttpd": "lighttpd cannot; let readers keep to one media server, or they load a file again from each",
        "apache": "Apache cannot; let readers keep to one media server, or they load a file again from each",
        ANY: "let readers keep to one media server, or they load a file again from each",
    },
    "longest": {ANY: "keep the root on a file system that takes names of 255 bytes (ext4, XFS; not eCryptfs)"},
    "characters": {ANY: "names have to reach the file system as they are: no rewriting or decoding of paths before it"},
    "case": {ANY: "keep the root on a file system that tells upper from lower case"},
    "size": _LIMITS,
    "size:unsaid": {ANY: "try with a large file: it does not answer to Expect: 100-continue"},
    "transfer": {ANY: _FULL + "; its error log says why"},
    "transfer:slow": {ANY: "below 64 KiB/s a transfer is given up: look at the line, or at a limit such as limit_rate"},
    "range": {
        "nginx": "max_ranges 1;  # or leave it out, 0 turns them off",
        "lighttpd": 'server.range-requests = "enable"',
        "apache": "MaxRanges default",
        ANY: "allow Range: without it a video cannot be wound forward",
    },
    "conditional": {
        "nginx": "etag on; if_modified_since exact;",
        "lighttpd": "give each type a line in mimetype.assign: lighttpd sends no ETag without",
        "apache": "FileETag MTime Size",
        ANY: "send ETag or Last-Modified, or browsers load again what they have",
    },
    "listing": {
        "nginx": "autoindex off;",
        "lighttpd": 'dir-listing.activate = "disable"',
        "apache": "Options -Indexes",
        ANY: "turn listings of folders off, or keep them to the application servers",
    },
    "hidden": _DOTS,
    "dots": _DOTS,
    "scripts": {ANY: "run nothing below this path: no PHP, CGI or server-side includes where uploads are"},
    "scripts:php": {
        "nginx": "keep `location ~ \\.php` away: location ^~ /media/ {{ ... }}",
        "lighttpd": "no fastcgi.server or cgi.assign below this path",
        "apache": "php_admin_flag engine off, RemoveHandler .php .shtml, Options -ExecCGI -Includes",
        ANY: "run nothing below this path: no PHP, CGI or server-side includes where uploads are",
    },
    "encoded": {
        "apache": "RemoveEncoding .gz .Z .bz2  # a file that is compressed is no encoding of another",
        ANY: "send files as they are, with no Content-Encoding",
    },
    "nosniff": {
        "nginx": "add_header X-Content-Type-Options nosniff always;",
        "lighttpd": 'setenv.add-response-header = ("X-Content-Type-Options" => "nosniff")',
        "apache": "Header always set X-Content-Type-Options nosniff",
        ANY: "send X-Content-Type-Options: nosniff",
    },
    "html": {
        "nginx": "serve media from a domain of its own, or: add_header Content-Security-Policy sandbox;",
        "lighttpd": "serve media from a domain of its own, or: setenv.add-response-header += "
        '("Content-Security-Policy" => "sandbox")',
        "apache": "serve media from a domain of its own, or: Header set Content-Security-Policy sandbox",
        ANY: "serve media from a domain of its own, or send Content-Security-Policy: sandbox",
    },
    "credentials": _WRITERS,
    "credentials:open": {ANY: "make it refuse PUT and DELETE that come without credentials"},
    "roots": {ANY: f"see to it yourself: {_ONE_ROOT}"},
    "roots:several": {ANY: f"each overwrites and deletes what the others saved: {_ONE_ROOT}"},
    "left": {ANY: "remove it by hand, on the server"},
}


def remedy(kind: str, key: str, cause: str, address: str, largest: int) -> str:
    """Return what to do about a finding on a server of ``kind``; "" if there is nothing."""
    exact = f"{key}:{cause}"
    key = exact if exact in _REMEDIES else key
    cures = _REMEDIES.get(key, {})
    text = cures.get(kind) or cures.get(ANY, "")
    if kind in cures and kind in _STOCK and key in _OPTIONS:
        text += f"  (resto config {kind} {_OPTIONS[key]})"
    if "{" not in text:
        return text
    network = parse_address(address)
    return text.format(
        address=address or "ADDRESS",
        network=str(ip_network(network)) if network else "ADDRESS",
        largest=largest,
        largest_kib=-(-largest // 1024),
    )
