"""What the tests of ``resto check`` share: checks of servers, and what is looked for in their reports."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from memory_server import Memory

from resto_wsgi.check import Check, Finding, Report
from resto_wsgi.hosts import parse_hosts
from resto_wsgi.transports.http.transport import HttpTransport

CheckServers = Callable[..., "list[Report]"]

WELL = {  # what the remedies say, put into the configurations
    "nginx": "add_header X-Content-Type-Options nosniff; add_header Content-Security-Policy sandbox;"
    'location ~ "/\\." { return 404; }',
    "lighttpd": 'server.modules += ("mod_access", "mod_setenv")\n$HTTP["url"] =~ "/\\." { url.access-deny = ("") }\n'
    'setenv.add-response-header = ("X-Content-Type-Options" => "nosniff")\n'
    'setenv.add-response-header += ("Content-Security-Policy" => "sandbox")',
    "apache": "LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so\n"
    "Header set X-Content-Type-Options nosniff\nHeader set Content-Security-Policy sandbox\n"
    '<LocationMatch "/\\.">\nRequire all denied\n</LocationMatch>',
    "node": "",
}


def made(transport: HttpTransport, *servers: Any, timeout: float = 2.0, **more: Any) -> Check:
    """Return a check of servers, or of URLs, that was not run."""
    hosts = parse_hosts([each if isinstance(each, str) else each.url for each in servers], "/")
    return Check(hosts, transport, timeout, **more)


def verdicts(report: Report) -> dict[str, str]:
    return {finding.key: finding.verdict for finding in report.findings}


def the(report: Report, key: str) -> Finding:
    """The one finding of that key."""
    (found,) = [finding for finding in report.findings if finding.key == key]
    return found


def unsafe(report: Report) -> set[str]:
    return {key for key, verdict in verdicts(report).items() if verdict == "unsafe"}


def assert_only_fault(report: Report, key: str, seen: str, cure: str) -> None:
    """It is unsafe, it is the only one, and it is the line of that server that is named."""
    assert not report.safe and unsafe(report) == {key}, report.findings
    found = the(report, key)
    assert seen in found.seen and cure in found.remedy, found


def assert_fault_in_memory(check: CheckServers, fault: str, keys: set[str], seen: str, **more: Any) -> None:
    """A server with that fault is unsafe for that and for nothing else, and nothing is left on it."""
    with Memory(fault) as server:
        (report,) = check(server, **more)
    assert unsafe(report) == keys, report.findings
    for key in keys:
        assert re.search(seen, the(report, key).seen)
        assert the(report, key).remedy
    assert report.safe is not bool(keys)
    assert server.files == {}
    # Where it says that something is left, or does not say that it is gone.
    assert bool(report.left) is (fault in ("stale", "no absent"))
