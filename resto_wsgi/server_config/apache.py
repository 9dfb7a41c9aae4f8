"""Apache: a whole httpd.conf for one site.

Sections of ``Location`` are merged in the order of the file, the last word on a matter stands; so what is hidden comes
last. No module that looks at more than the URL is loaded: no handlers, no .htaccess, no index files.
"""

from __future__ import annotations

from . import quoting
from .site import ATTACHED, OTHER_TYPE, SANDBOX, TYPES, VIEWED, YEAR, Site

__all__ = ["MODULES", "configure"]

MODULES = "/usr/lib/apache2/modules"  # Debian's; Red Hat has them in /usr/lib64/httpd/modules
_LOADED = ("mpm_event", "authz_core", "authz_host", "alias", "headers", "dav", "dav_fs")


def configure(site: Site, modules: str = MODULES) -> str:
    """Return the configuration as text; ``modules`` is the folder of the server's modules."""
    parts = (_head(site), _main(site, modules), _tls(site), _files(site), _rules(site))
    return "\n".join(part for part in parts if part)


def _head(site: Site) -> str:
    folders = [site.root, *([site.run] if site.run else [])]
    return f"""\
# A media server, for `apache2 -f FILE` or /etc/apache2/apache2.conf; printed by `resto config apache`, which prints
# it anew when a setting changes.
# Needs: {site.prepare(*folders)}
"""


def _main(site: Site, modules: str) -> str:
    needed = [*_LOADED, *(["socache_shmcb", "ssl"] if site.certificate else [])]
    lines = []
    for each in ("unixd", *needed):
        module = quoting.apache("modules", f"{modules}/mod_{each}.so")
        lines.append(f"<IfModule !{each}_module>\n    LoadModule {each}_module {module}\n</IfModule>")
    loaded = "\n".join(lines)
    run = site.run
    own = run or "/run/apache2"
    log = run or "/var/log/apache2"
    lock = run or "/var/lock/apache2"
    user = f"User {site.user}\nGroup {site.user}\n" if site.user else ""
    listen = f"{site.shown_address}:{site.port}" if site.address else f"{site.port}"
    return f"""\
ServerRoot {quoting.apache("run", run or "/etc/apache2")}
{loaded}
ServerName localhost
Listen {listen}{" https" if site.certificate else ""}
{user}PidFile {quoting.apache("run", f"{own}/apache2.pid")}
DefaultRuntimeDir {quoting.apache("run", own)}
ErrorLog {quoting.apache("run", f"{log}/error.log")}
DavLockDB {quoting.apache("run", f"{lock}/DavLock")}
ServerTokens Prod
ServerSignature Off
TraceEnable Off
"""


def _tls(site: Site) -> str:
    if not (site.certificate and site.key):
        return ""
    verify = ""
    if site.client_ca:
        ca = quoting.apache("client_ca", site.client_ca)
        verify = f"SSLCACertificateFile {ca}\n# Readers need none.\nSSLVerifyClient optional\nSSLVerifyDepth 3\n"
    return f"""\
SSLEngine on
SSLProtocol all -SSLv3 -TLSv1 -TLSv1.1
SSLCertificateFile {quoting.apache("certificate", site.certificate)}
SSLCertificateKeyFile {quoting.apache("key", site.key)}
{verify}"""


def _files(site: Site) -> str:
    alias = f"Alias {site.path}/ {quoting.apache('root', f'{site.root}/')}\n" if site.path else ""
    return f"""\
DocumentRoot {quoting.apache("root", site.root)}
{alias}<Directory />
    Options FollowSymLinks
    AllowOverride None
    Require all denied
</Directory>
Header always set X-Content-Type-Options nosniff
Header always set Content-Security-Policy "{SANDBOX}"
"""


def _rules(site: Site) -> str:
    writers, listers = " ".join(site.writers), " ".join(site.listers)
    certificate = "            Require ssl-verify-client\n" if site.client_ca else ""
    return f"""\
<Location {site.path or "/"}>
    Dav On
    # What is received is written beside its file and renamed, so a reader sees the old file or the new one.
    LimitRequestBody {site.max_body}
    LimitXMLRequestBody 65536
    Header set Cache-Control no-cache
    # HTML and scripts are downloaded: they must not run on this site. What is shown is below.
    ForceType {OTHER_TYPE}
    <RequireAny>
        Require method GET HEAD
        # The application servers: whoever may write can replace every file. No folder is removed: a DELETE would take
        # all that is in it, but for one that says "Depth: 0", as ours do. No part of a file is put, and no PUT may
        # hide how long it is, for it would leave an empty file.
        <RequireAll>
            Require method PUT DELETE MKCOL
            Require ip {writers}
{certificate}            Require expr "%{{REQUEST_METHOD}} == 'MKCOL' || %{{REQUEST_URI}} !~ m#/$#"
            Require expr "%{{REQUEST_METHOD}} != 'DELETE' || req_novary('Depth') == '0'"
            Require expr "%{{REQUEST_METHOD}} != 'PUT' || req_novary('Content-Length') =~ /^[0-9]+$/"
            Require expr "req_novary('Content-Range') == ''"
        </RequireAll>
        # Who may list folders: the application servers too, to compare.
        <RequireAll>
            Require method PROPFIND OPTIONS
            Require ip {listers}
        </RequireAll>
    </RequireAny>
</Location>
{_types()}
# SVG can hold scripts: pages show it, but nobody opens it on this site.
<LocationMatch "{ATTACHED}">
    Header set Content-Disposition attachment
</LocationMatch>
# A browser does not open its viewer in a sandbox.
<LocationMatch "{VIEWED}">
    Header always unset Content-Security-Policy
</LocationMatch>
{_caching(site)}
# .resto, temporary files, whatever is hidden: not for reading, and not for writing.
<LocationMatch "/\\.">
    Require all denied
</LocationMatch>
"""


def _types() -> str:
    text = ""
    for kind, endings in TYPES.items():
        full = f'"{kind}; charset=utf-8"' if kind.startswith("text/") else kind
        text += f'<LocationMatch "(?i)\\.({"|".join(endings)})$">\n    ForceType {full}\n</LocationMatch>\n'
    return text


def _caching(site: Site) -> str:
    if not site.immutable:
        return ""
    return f"""\
# With naming="{site.naming}" such a name never gets other content; all else is asked for again each time.
<LocationMatch "{site.immutable}">
    Header set Cache-Control "public, max-age={YEAR}, immutable"
</LocationMatch>
"""
