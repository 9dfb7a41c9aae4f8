"""lighttpd: a whole lighttpd.conf for one site.

Its conditions do not add up: of two that match, the later one's value stands. So all that refuses sets the very same
value, and none of it can undo another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import ConfigError
from . import quoting
from .site import ATTACHED, OTHER_TYPE, SANDBOX, TYPES, VIEWED, Site

__all__ = ["configure"]

REFUSED = 'url.access-deny = ("")'
NOSNIFF = '"X-Content-Type-Options" => "nosniff"'
POLICY = f'"Content-Security-Policy" => "{SANDBOX}"'
MODULES = ("access", "alias", "setenv", "expire", "webdav")


def configure(site: Site) -> str:
    """Return the configuration as text; raise ConfigError for what lighttpd cannot do."""
    if site.client_ca:
        raise ConfigError(
            "client_ca", "lighttpd cannot ask writers alone for certificates; use nginx or Apache, or --allow"
        )
    parts = (_head(site), _main(site), _tls(site), _files(site), _rules(site))
    return "\n".join(part for part in parts if part)


def _head(site: Site) -> str:
    tls = " lighttpd-mod-openssl" if site.certificate else ""
    folders = [site.root, site.temp, *([site.run] if site.run else [])]
    return f"""\
# A media server, for /etc/lighttpd/lighttpd.conf (apt install lighttpd lighttpd-mod-webdav{tls}); printed by
# `resto config lighttpd`, which prints it anew when a setting changes.
# Needs: {site.prepare(*folders)}
"""


def _main(site: Site) -> str:
    modules = [*MODULES, *(["openssl"] if site.certificate else [])]
    loaded = ", ".join(f'"mod_{each}"' for each in modules)
    pid = quoting.lighttpd("run", f"{site.run}/lighttpd.pid") if site.run else '"/run/lighttpd.pid"'
    log = quoting.lighttpd("run", f"{site.run}/error.log") if site.run else '"/var/log/lighttpd/error.log"'
    user = f'server.username = "{site.user}"\nserver.groupname = "{site.user}"\n' if site.user else ""
    bind = f'server.bind = "{site.shown_address}"\n' if site.address else ""
    both = (
        f'$SERVER["socket"] == "0.0.0.0:{site.port}" {{ }}\n' if site.address == "::" and not site.certificate else ""
    )
    return f"""\
server.modules = ({loaded})
{bind}server.port = {site.port}
{both}{user}server.pid-file = {pid}
server.errorlog = {log}
server.tag = "lighttpd"
"""


def _tls(site: Site) -> str:
    if not (site.certificate and site.key):
        return ""
    return f"""\
ssl.engine = "enable"  # TLS 1.2 and later, as lighttpd has it by itself
ssl.pemfile = {quoting.lighttpd("certificate", site.certificate)}
ssl.privkey = {quoting.lighttpd("key", site.key)}
"""


def _files(site: Site) -> str:
    root = quoting.lighttpd("root", f"{site.root}/")
    types = "".join(
        f'    ".{ending}" => "{kind}{_charset(kind)}",\n' for kind, endings in TYPES.items() for ending in endings
    )
    alias = f'alias.url = ("{site.path}/" => {root})\n' if site.path else ""
    return f"""\
server.document-root = {root}
{alias}# What comes in has no name until all of it is there. If a file system cannot do that (NFS), it waits in this
# folder, which is on the same one: else it would be copied.
server.upload-dirs = ({quoting.lighttpd("temp", site.temp)})
server.max-request-size = {-(-site.max_body // 1024)}  # KiB; not less than max_file_size of the application
webdav.activate = "enable"
# Else x.svg/a.png would be x.svg, by the rules for a.png.
static-file.disable-pathinfo = "enable"

# HTML and scripts are downloaded: they must not run on this site. The last line is for whatever is not listed.
mimetype.assign = (
{types}    "" => "{OTHER_TYPE}"
)
# A header that is set for some names replaces all that are set for every name.
setenv.add-response-header = ({NOSNIFF}, {POLICY})
$HTTP["url"] =~ "{VIEWED}" {{
    setenv.add-response-header = ({NOSNIFF})
}}
# SVG can hold scripts: pages show it, but nobody opens it on this site.
$HTTP["url"] =~ "{ATTACHED}" {{
    setenv.add-response-header = ({NOSNIFF}, {POLICY}, "Content-Disposition" => "attachment")
}}
{_caching(site)}"""


def _charset(kind: str) -> str:
    return "; charset=utf-8" if kind.startswith("text/") else ""


def _caching(site: Site) -> str:
    if not site.immutable:
        return ""
    return f"""\
# With naming="{site.naming}" such a name never gets other content. lighttpd can say for how long, on success alone.
$HTTP["url"] =~ "{site.immutable}" {{
    expire.url = ("" => "access plus 365 days")
}}
"""


def _rules(site: Site) -> str:
    elsewhere = ""
    if site.path:
        elsewhere = f'$HTTP["url"] !~ "^{re.escape(site.path)}/" {{\n    {REFUSED}\n}}\n'
    return f"""\
# .resto, temporary files (lighttpd's own end with ~): not for reading, and not for writing.
$HTTP["url"] =~ "/\\.|~(/|$)" {{
    {REFUSED}
}}
{elsewhere}$HTTP["request-method"] !~ "^(GET|HEAD|OPTIONS|PROPFIND|PUT|DELETE|MKCOL)$" {{
    {REFUSED}
}}
# Writing is for the application servers: whoever may write can replace every file.
$HTTP["request-method"] =~ "^(PUT|DELETE|MKCOL)$" {{
{_only(site.writers)}}}
# So is listing, to compare.
$HTTP["request-method"] == "PROPFIND" {{
{_only(site.listers)}}}
# A DELETE of a folder would remove all that is in it; one that says "Depth: 0", as ours do, removes none.
$HTTP["request-method"] == "DELETE" {{
    $REQUEST_HEADER["Depth"] != "0" {{
        {REFUSED}
    }}
    $HTTP["url"] =~ "/$" {{
        {REFUSED}
    }}
}}
# A PUT that does not say how long it is would leave an empty file.
$HTTP["request-method"] == "PUT" {{
    $REQUEST_HEADER["Content-Length"] !~ "^[0-9]+$" {{
        {REFUSED}
    }}
}}
"""


def _only(networks: Sequence[str]) -> str:
    lines = [f'$HTTP["remote-ip"] == "{each}" {{ }}' for each in networks]
    chain = "\n    else ".join([*lines, f"{{ {REFUSED} }}"])
    return f"    {chain}\n"
