"""The process under test: runs one side of a row, once, and writes its figures as one line of JSON.

Started as ``python -m benchmarks.child MODULE:FUNCTION`` with the arguments as JSON on standard input. The function
does its work inside of a ``Clock`` and returns a mapping. What it prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from .clock import Clock


def main() -> None:
    arguments = json.load(sys.stdin)
    out = os.dup(1)
    os.dup2(2, 1)
    Clock.profile = arguments.pop("profile", False)
    module, function = sys.argv[1].split(":")
    figures = getattr(importlib.import_module(module), function)(**arguments)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    main()
