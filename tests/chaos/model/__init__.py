"""The random model test: real parts, operations and faults drawn from a seed, and a judge who knows what must be there.

    ``setup``, ``events``, ``plan``    a history: its site and its steps, which come from the seed before anything runs
    ``machines``                       media servers as processes: nginx, our own node, a tree; and the links to them
    ``application``, ``processes``     one process of the application, from inside and from outside
    ``site``                           what one history runs on, and what is broken there just now
    ``faults``, ``administrator``      what breaks by itself, and what people do
    ``belief``, ``reader``             what clients were told and read, and whether it can be true
    ``look``, ``verdict``              what is there against that, under way and in the end
    ``play``, ``runs``                 one history; in a process of its own, and many of them
    ``shrink``, ``broken``, ``part``   the fewest steps that fail; the product broken on purpose; the whole

``make chaos ARGS='--only model --seed 7'`` runs it; ``--lines 9,10`` adds the events of known defects, by the line of
``events.LINES``; ``--steps 3,7-9`` plays only these steps of history 7, as a failing run prints them. Only the public
face of the product is used, but for the tables of its outbox in ``broken``, ``site`` and ``judge``.
"""
