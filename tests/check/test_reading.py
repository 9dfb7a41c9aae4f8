"""What readers get: ranges, validators, listings, types, and files that a server would run."""

from __future__ import annotations

from typing import Any

import pytest
from checked import CheckServers, assert_fault_in_memory, assert_only_fault, the
from memory_server import tree

FAULTS = [
    (
        "nginx",
        {"extra": "location ~ shtml$ { ssi on; ssi_types *; }"},
        "scripts",
        "include.shtml",
        "location ^~ /media/",
    ),
    (
        "nginx",
        {"extra": 'location ~ php$ { if ($request_method = GET) { return 200 "42"; } }'},
        "scripts",
        "php",
        "php",
    ),
    ("apache", {"extra": "AddEncoding x-gzip .gz"}, "encoded", "packed.gz", "RemoveEncoding .gz"),
]


@pytest.mark.parametrize(("kind", "options", "key", "seen", "cure"), FAULTS)
def test_a_fault_is_found_on_a_real_server_and_its_remedy_named(
    kind: str, options: Any, key: str, seen: str, cure: str, media_servers: Any, check: CheckServers
) -> None:
    """Nothing else is unsafe, and the line of that server's configuration is named."""
    (server,) = media_servers(kind, **options)
    (report,) = check(server)
    assert_only_fault(report, key, seen, cure)
    assert tree(server.root) == [] and not report.left


def test_a_part_that_is_not_the_one_that_was_asked_for_is_unsafe(check: CheckServers) -> None:
    """A video would be played from another place, or a download joined of parts that do not fit."""
    assert_fault_in_memory(check, "range", {"range"}, "206")


WEAK = [
    ("nginx", "autoindex on;", "listing", "autoindex off;"),
    ("nginx", "max_ranges 0;", "range", "max_ranges"),
    ("nginx", "etag off; if_modified_since off;", "conditional", "etag on;"),
]


@pytest.mark.parametrize(("kind", "extra", "key", "cure"), WEAK)
def test_what_is_no_danger_is_a_warning(
    kind: str, extra: str, key: str, cure: str, media_servers: Any, check: CheckServers
) -> None:
    """Replication stays safe."""
    (server,) = media_servers(kind, extra=extra)
    (report,) = check(server)
    assert report.safe and the(report, key).verdict == "warning"
    assert cure in the(report, key).remedy


def test_a_listing_in_json_is_of_use(media_servers: Any, check: CheckServers) -> None:
    """It is no fault."""
    (server,) = media_servers("nginx", extra="autoindex on; autoindex_format json;")
    assert the(check(server)[0], "listing").seen.startswith("JSON")
