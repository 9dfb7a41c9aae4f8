"""``python -m resto_wsgi`` is the command ``resto``, for use if that is not in the PATH."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
