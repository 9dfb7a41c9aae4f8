"""``python tests/chaos``: run the parts, print the table, and exit with 1 where one of them found something.

--short                 what ``make test`` runs, in about 90 s; without it about an hour
--only PART[,PART]      simulation, kill, partitions, disk, outage, links, model
--seed N                draw the same; what the machine makes of it may differ
--kills N, --seconds N, --owed N, --histories N, --model-seconds N
                        how much of kill, partitions, outage, simulation, model
--lines N[,N]           draw the events of known defects too (model): see LINES in tests/chaos/model/events.py
--steps N[-N][,...]     play these steps alone of history SEED, and tell all that happened (model)
--json FILE             the figures, for other programs
--keep                  do not remove the files of the run
"""

from __future__ import annotations

import os
import sys

# As a folder that is run, only its own modules could be imported, and one of them might hide another's.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, os.path.dirname(sys.path[0]))

from chaos.parts import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
