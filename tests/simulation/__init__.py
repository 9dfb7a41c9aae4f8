"""The seeded simulator: the real product on a simulated clock, disk and network, in thousands of histories.

    PYTHONPATH=tests python -m simulation                              2,000 histories, and their figures
    PYTHONPATH=tests python -m simulation --histories 100 --seed 7     100 of them, from seed 7 on
    PYTHONPATH=tests python -m simulation --replay 7                   history 7 again, step by step

A history is one seed; ``run`` plays many, on all processors. ``kernel`` decides who goes on, ``disk`` and ``network``
stand in for the world, ``product`` is what runs on them, ``history`` plays, ``operations`` and ``verdict`` judge,
``mutants`` break the product on purpose, so that it is known that the judge can find something.
"""

from .runs import play, run

__all__ = ["play", "run"]
