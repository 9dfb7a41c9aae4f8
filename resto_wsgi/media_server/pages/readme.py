"""``/__readme.txt``: the commands for this very node, to be pasted into a shell.

Nothing that a client sent is in it but the address by which he called, and that only if a shell takes it for a plain
word (``caller.own_url``). ``node`` calls this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import TEXT, UNKEPT, Answer, whole_answer
from ..caller import own_url

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["readme_page"]

COMMANDS = """\
# A media server. These commands work as they stand if this machine's address may write (--allow). With client
# certificates add --cert FILE --key FILE to each; a signature (--secret-file) is more than curl can make.

# Store a file, here and on every node below: 201 or 200, every node has it; 202, some are owed it. A line for each.
curl -sS -H 'Expect:' -T /etc/hostname {url}/example/hostname.txt

# The same, answered as soon as it is durable here; the nodes below get it in the background.
curl -sS -H 'Expect:' -T /etc/hostname '{url}/example/hostname.txt?wait=local'

# The report as JSON; only if nobody else has stored a file of that name.
curl -sS -H 'Expect:' -H 'Accept: application/json' -H 'If-None-Match: *' -T /etc/hostname {url}/example/new.txt

# Read it, or a part of it. What is not here is read through the nodes below.
curl -sS {url}/example/hostname.txt
curl -sS -r 0-3 {url}/example/hostname.txt

# Its size, time and digest.
curl -sS -I -H 'Want-Repr-Digest: sha-256=1' {url}/example/hostname.txt

# What nodes of this subtree are owed, to be read by people or followed by a crawler, and as JSON with all figures.
curl -sS {url}/__missing__
curl -sS -H 'Accept: application/json' {url}/__missing__

# Every name with size, time and digest, a page at a time (next says which query is), and what was deleted.
curl -sS -H 'Accept: application/json' '{url}/__index__?limit=100'
curl -sS -H 'Accept: application/json' '{url}/__index__?limit=100&gone=1'

# Delete files.
curl -sS -X DELETE {url}/example/hostname.txt
curl -sS -X DELETE {url}/example/new.txt
"""


def readme_page(environ: WSGIEnvironment) -> Answer:
    """Return the commands, with the address by which the client has called this server."""
    body = COMMANDS.format(url=own_url(environ)).encode()
    return whole_answer("200 OK", TEXT, body, [UNKEPT, ("X-Content-Type-Options", "nosniff")])
