"""What the disk refuses, as our own error; and the removal of what may be gone already.

Each step on a file of the media root stands in ``disk(action, name)``. So the caller gets a MediaRootError, which says
what was wanted and why it cannot be. No bare OSError leaves this package, except those that a docstring names. Which
steps there are is not known here. The modules of this package that touch the disk call this, and so does
``media_server.files``.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import MediaRootError

__all__ = ["disk", "unlink"]


class disk:
    """Translate what the disk refuses into MediaRootError, except the kinds that the caller expects.

    It is a class and not a generator, which would cost more: it is entered at each step of each file.
    """

    __slots__ = "_action", "_but", "_name"

    def __init__(self, action: str, name: str, but: type[OSError] | tuple[type[OSError], ...] = ()) -> None:
        self._action, self._name, self._but = action, name, but

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, self._but):
            raise MediaRootError(self._action, self._name, error) from error


def unlink(path: str) -> None:
    """Remove a file that may be gone already. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
