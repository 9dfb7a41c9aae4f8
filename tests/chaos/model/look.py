"""A look at everything while no operation is under way: is what ``status`` says true, and was nothing deleted unasked?

    all is well with a host    it is up and owed nothing: every name on it is as it must be
    a host holds a name        status of that name does not have it among those that owe it: it is the very file
    a name is only saved       nobody has deleted or withdrawn it: where it was once, it is at every later look

The worker may be at work meanwhile. So a host is compared, then the product is asked, then it is compared again: what
is wrong both times was wrong when the product answered. Hosts that lost files behind its back are not looked at.
"""

from __future__ import annotations

from typing import Any

from ..judge import read_root
from .site import PASSED_BY, Site

__all__ = ["Wrong", "look", "note_vanished"]

ASKED = 60  # names of which the status is asked
ANSWER_WITHIN = 30.0  # seconds

Wrong = dict[tuple[str, str], str]
"""What is wrong with a name on a host, by the host's URL and the name."""


def look(site: Site) -> str:
    """Note what is wrong as problems; return in words what was looked at."""
    with site.all_quiet() as quiet:
        process = site.operator()
        if not quiet or process is None or site.media in site.hidden:
            return PASSED_BY
        note_vanished(site)
        before = wrong_on_hosts(site)
        names = sorted({name for _, name in before})[:ASKED]
        said = process.answer_to("status", ANSWER_WITHIN, names=names)
        after = wrong_on_hosts(site)
    if said is None or said["effect"] != "told":
        return f"no status: {(said or {}).get('error', 'no answer')}"
    still = {pair: what for pair, what in before.items() if after.get(pair) == what}
    site.belief.problems += [*_untrue_of_hosts(said, still), *_untrue_of_names(said, still)]
    return f"{len(still)} differ"


def wrong_on_hosts(site: Site) -> Wrong:
    """Compare the hosts with the master; where none is kept, with what clients were told."""
    ledger = site.belief.ledger
    master = read_root(site.media) if site.setup.mode != "distributed" else None
    found: Wrong = {}
    for host in site.configured:
        if host.number in site.unsynced or host.servers[0].root in site.hidden:
            continue
        held = read_root(host.servers[0].root)
        for name in {*held, *(ledger.names() if master is None else master)}:
            right = ledger.allows(name, held.get(name)) if master is None else held.get(name) == master.get(name)
            if not right and not site.is_away(name):
                wanted = ledger.legal(name) if master is None else {master.get(name)}
                found[host.url, name] = f"{name} is {held.get(name)}, not {' or '.join(map(str, wanted))}"
    return found


def note_vanished(site: Site) -> None:
    """Note names that were on a server, are not any more, and were deleted by nobody."""
    ledger = site.belief.ledger
    for host in site.configured:
        if host.number in site.unsynced:
            continue
        for server in host.servers:
            if server.root in site.hidden:
                continue
            held = read_root(server.root)
            for label, name in list(site.seen):
                if label == server.label and name not in held and ledger.is_only_saved(name):
                    site.belief.problems.append(f"deleted: {name} was on server {label}, and nobody has deleted it")
                    site.seen.discard((label, name))
            site.seen |= {(server.label, name) for name in held if ledger.is_only_saved(name)}


def _untrue_of_hosts(said: dict[str, Any], wrong: Wrong) -> list[str]:
    well = {url for url, (state, owed, _, _) in said["hosts"].items() if state == "up" and not owed}
    return [
        f"untrue: status says that all is well with {url}, but {wrong[url, name]}" for url, name in wrong if url in well
    ]


def _untrue_of_names(said: dict[str, Any], wrong: Wrong) -> list[str]:
    found = []
    for name, (present, hosts, owing) in said["names"].items():
        for label in set(hosts) - set(owing):
            url = said["labels"][label]
            if (url, name) in wrong:
                claim = "holds" if present else "does not hold"
                found.append(f"untrue: status of {name} says that {label} {claim} it, but {wrong[url, name]}")
    return found
