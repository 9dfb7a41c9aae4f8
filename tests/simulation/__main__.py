"""``python -m simulation``: many histories and their figures, or one again, step by step. See the package."""

from __future__ import annotations

import argparse
import json
import time

from . import play, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Play histories of faults.")
    parser.add_argument("--histories", type=int, default=2000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the first one; the others follow")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play this one again and print each step")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        result, history = play(arguments.replay)
        for moment, actor, label in history.kernel.trace:
            print(f"{moment:10.4f}  {actor:<14} {label}")
        print(json.dumps({**result, "plan": history.plan}, indent=2))
        return 1 if result["problems"] else 0
    began = time.monotonic()
    figures = run(arguments.histories, arguments.seed)
    figures["real seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(figures, indent=2))
    return 1 if figures["failing seeds"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
