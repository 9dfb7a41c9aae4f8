"""Probes media servers as they are: would replication to them be safe, and what has to be changed if not?

    finding.py    what a probe returns
    subject.py    one media server that is probed, and what was written to it
    reach.py, writing.py, replacing.py, folders.py, naming.py, sizes.py, reading.py      the probes
    remedies.py   the line to change, by finding and by kind of server
    cleaning.py   takes away what was written
    run.py        all probes on all hosts at once, and what differs between them

All that is written is in one folder of a random name, made by the check itself. What replication does is tried with
the transport; what it never does with ``transports.http.raw``. Nothing here prints; `resto check` calls `Check`.
"""

from __future__ import annotations

from .finding import Finding
from .run import Check, Report

__all__ = ["Check", "Finding", "Report"]
