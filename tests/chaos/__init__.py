"""The chaos harness: real servers, real processes and a real network that fail, and a judge of what is left.

    ``proxy``       a network that can be broken          ``rig``       nginx servers and a gunicorn that can be killed
    ``bodies``      contents that prove themselves        ``clients``   writers and readers
    ``ledger``      what was asked, and what may be last  ``judge``     what is on the disks against the ledger
    ``kill``, ``partitions``, ``full_disk``, ``outage``, ``slow_links``   the parts; each has ``run(...) -> Figures``
    ``parts``       each part as a process of its own     ``report``    the figures and the table

Nothing here asks the product how it is: what counts is on the disks of the master and of the hosts, and in the
outbox file. ``python tests/chaos --help`` runs it.
"""
