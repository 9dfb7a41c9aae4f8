"""What the application's answer means for the uploads of its request: published, withdrawn, or left as they are.

``HeldAnswer`` asks once with the status that would leave, and tells when the request has ended. In a process that the
application forked nothing is decided: such a process may leave by ``sys.exit``, or answer too, and its end is not that
of the request. The middleware makes one for each request that it has caught.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from ..errors import RestoError
from ..forks import this_process
from .error_page import error_page
from .form import Form
from .uploads import Uploads

__all__ = ["Verdict"]

log = logging.getLogger("resto_wsgi")


class Verdict:
    """The end of one request. ``publish`` is "on_success", "always" or "manual", as in the middleware."""

    def __init__(self, uploads: Uploads, form: Form, body: BinaryIO, publish: str, *, show_traceback: bool) -> None:
        self._uploads = uploads
        self._form = form
        self._body = body
        self._publish = publish
        self._show_traceback = show_traceback
        self._process = this_process()

    def decide(self, code: int) -> Callable[[dict[str, Any], Any], Iterable[bytes]] | None:
        """Publish or withdraw as the status says; return the error page that takes the answer's place, if any."""
        if self._publish == "manual" or self._process != this_process():
            return None
        try:
            if self._publish == "on_success" and not 200 <= code < 400:
                self._uploads.withdraw()
            else:
                self._uploads.publish()
        except RestoError as error:
            return error_page(error, withdrawn=self._withdrawn(), show_traceback=self._show_traceback)
        return None

    def finish(self, failed: bool) -> None:
        """End the request: nothing staged stays."""
        if self._process != this_process():
            return
        try:
            if failed and self._publish != "manual":
                self._uploads.withdraw()
        finally:
            self._uploads.release()
            self._form.discard()
            self._body.close()

    def _withdrawn(self) -> bool:
        """Take back what was published, or try; True if nothing stands."""
        try:
            self._uploads.withdraw()
        except RestoError:
            log.exception("what was published before this failure could not be withdrawn, and stands")
            return False
        return True
