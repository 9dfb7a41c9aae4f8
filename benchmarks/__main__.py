"""``python benchmarks``: run the rows, print the table, and write the figures as JSON.

--quick              small sizes and 3 turns, under a minute; without it 5 turns, at most 15 minutes
--only ROW[,ROW]     these rows alone; --list names them
--turns N            other than 5 or 3: for a look, as fewer make no measurement
--json FILE          where the figures go; benchmark.json in the temporary folder by default
--folder FOLDER      where all files of the run go, on the file system to be measured; /var/tmp by default
--profile ROW        run our side of one row once, and print where its time goes
--tiny               what the test of this benchmark runs; its figures mean nothing

Leave 5 minutes between two runs: what one deletes at its end slows the making of files in the next (see ``Place``).
It ends with 1 where a row failed or wrong bytes arrived; a reach that was not met is in the table, and no failure.
"""

from __future__ import annotations

import os
import sys

# As a folder that is run, only its own modules could be imported, and one of them might hide another's.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from benchmarks.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
