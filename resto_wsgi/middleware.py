"""The WSGI middleware: decides whether a request is ours, delegates the work, and passes everything else through.

    not ours ──> the application, untouched
    authorize ──> receive (intake) ──> name ──> validate ──> hand over (handoff) ──> the application, its answer held
    its answer decides (verdict): publish ──> the answer leaves;  withdraw;  too few hosts ──> withdraw, 503

Here are the policies of a request, and nothing that reads a body, a disk or a socket. Whatever ends a request, the
uploads are released: what is published stands, everything staged is gone.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

from . import names
from .config import Settings, UploadSettings
from .errors import ConfigError, RestoError, UploadRejected
from .replicator import Replicator
from .upload.error_page import error_page
from .upload.form import FilePart
from .upload.handoff import hand_over, referenced
from .upload.held_answer import HeldAnswer
from .upload.intake import FILE_IN_MEMORY, receive
from .upload.paths import is_below
from .upload.request_head import MULTIPART, URLENCODED, media_type
from .upload.uploads import KEY, Upload, Uploads
from .upload.urlencoded import receive_urlencoded
from .upload.verdict import Verdict
from .upload.wrapped import check_application

__all__ = ["UploadMiddleware"]

METHODS = frozenset({"POST", "PUT", "PATCH"})
UNGUARDED = (
    "UploadMiddleware: the files of every form that the application answers below 400 are published, whoever sends it: "
    "give paths, catch, authorize or publish"
)

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]

log = logging.getLogger("resto_wsgi")


class UploadMiddleware:
    """Wraps a WSGI application: the files that clients upload to it are on every media server when it has answered.

    Which requests: POST, PUT and PATCH with multipart/form-data, of these the ones for ``paths`` and what is below
    them, and of these the ones for which ``catch(environ)`` is true. ``authorize(environ)`` refuses with 403 if it is
    false, or as the UploadRejected that it raises says, before a byte of the body is read.

    What the application reads: ``handoff="original"``, the client's own bytes; ``"reference"``, a body in which the
    files of ``fields`` are text fields that hold their names; what else a client sends there is refused with 400. In
    both, ``environ["resto.uploads"]`` has the uploads, and ``environ["resto.uploads"][name]`` the one of that name.

    When they are published: ``publish="on_success"``, when the application answers 2xx or 3xx; ``"always"``, whatever
    it answers; ``"manual"``, only by ``environ["resto.uploads"].publish()``. An upload that was not published when the
    request ends is removed; with "on_success" a failure also withdraws what was published early.

    How they are named: under ``upload_to`` (a strftime pattern in UTC, or a callable of field, filename and environ
    that returns a folder), by ``naming``: ``"original"``, the client's filename cleaned, with a random suffix;
    ``"random"``; ``"content"``, the SHA-256, so that equal files share one name.

    What is refused: more than the limits, ``max_file_size`` and so on (413); a type or extension that is not in
    ``allowed_types`` (the client's claim) or ``allowed_extensions`` (415); an upload for which ``validate(upload)``
    returns False (415) or raises UploadRejected.

    All keywords but the functions are settings, which an environment or an ini file can give, too: without a
    ``replicator`` they are those of the new one as well; with one they replace what its settings say of the middleware.
    Raises ConfigError, and TypeError if ``application`` is no WSGI application.
    """

    def __init__(
        self,
        application: Application,
        replicator: Replicator | None = None,
        *,
        catch: Callable[[Environ], bool] | None = None,
        authorize: Callable[[Environ], bool] | None = None,
        validate: Callable[[Upload], bool | None] | None = None,
        clock: Callable[[], float] = time.time,
        **settings: Any,
    ) -> None:
        check_application(application)
        self._application = application
        self._catch = catch
        self._authorize = authorize
        self._validate = validate
        self._clock = clock
        if replicator is None:
            replicator = Replicator(Settings.from_keywords(**settings))
            self.settings = replicator.settings
        else:
            self.settings = _with(replicator.settings, settings)
        self.replicator = replicator
        self._fields = frozenset(self.settings.fields)
        if not (self.settings.paths or catch or authorize or self.settings.publish):
            log.warning("%s", UNGUARDED)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        self.replicator.start()
        if environ["REQUEST_METHOD"].upper() not in METHODS and not self._fields:
            return self._application(environ, start_response)
        try:
            if self._fields:
                self._look_for_forged_names(environ)
            verdict = self._receive(environ) if self._is_ours(environ) else None
        except RestoError as error:
            page = error_page(error, show_traceback=self.settings.show_traceback)
            return page(environ, start_response)
        if verdict is None:
            return self._application(environ, start_response)
        return HeldAnswer(environ, start_response, verdict.decide, verdict.finish).run(self._application)

    def _is_ours(self, environ: Environ) -> bool:
        if media_type(environ) != MULTIPART or KEY in environ:
            return False
        if self.settings.paths is not None and not is_below(environ, self.settings.paths):
            return False
        return self._catch is None or bool(self._catch(environ))

    def _look_for_forged_names(self, environ: Environ) -> None:
        """Refuse a form of another kind that has one of the fields in which the application finds names of ours.

        Whatever its path is, since frameworks do not agree on paths; without a type it is a form for WebOb.
        """
        kind = media_type(environ)
        if kind != URLENCODED and (kind or environ["REQUEST_METHOD"].upper() not in METHODS):
            return
        body = receive_urlencoded(environ, self.settings, self._fields)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)

    def _receive(self, environ: Environ) -> Verdict:
        """Read the body, name and check its files, and present them to the application; all, or nothing stays."""
        if self._authorize is not None and not self._authorize(environ):
            raise UploadRejected("You may not upload here.", 403)
        dated = self._dated()
        form = receive(environ, self.settings, lambda: self.replicator.stage(FILE_IN_MEMORY, near=dated), self._admit)
        try:
            uploads = {id(part): self._upload(part, dated, environ) for part in form.files}
            if self.settings.handoff == "reference":
                content_type, parts, pieces = referenced(form, self._fields, lambda part: uploads[id(part)].name)
                environ["CONTENT_TYPE"] = content_type
            else:
                parts, pieces = form.parts, form.pieces
            stream = hand_over(environ, parts, pieces)
        except BaseException:
            form.discard()
            raise
        environ[KEY] = found = Uploads(tuple(uploads.values()), overwrite=self.settings.naming == "content")
        return Verdict(
            found, form, stream, self.settings.publish or "on_success", show_traceback=self.settings.show_traceback
        )

    def _admit(self, field: str, filename: str, content_type: str) -> None:
        """Refuse a file before it is staged."""
        types, extensions = self.settings.allowed_types, self.settings.allowed_extensions
        if types is not None and content_type.lower() not in types:
            raise UploadRejected(f"Files of this type are not accepted, only {', '.join(sorted(types))}.", 415)
        if extensions is not None and names.extension_of(names.clean(filename)) not in extensions:
            accepted = ", ".join(f".{each}" for each in sorted(extensions))
            raise UploadRejected(f"Files of this extension are not accepted, only {accepted}.", 415)

    def _upload(self, part: FilePart, dated: str, environ: Environ) -> Upload:
        upload = Upload(part, self.replicator)
        upload.name = self._name(part, dated, environ)
        if self._validate is not None and self._validate(upload) is False:
            raise UploadRejected("The file was refused.", 415)
        return upload

    def _name(self, part: FilePart, dated: str, environ: Environ) -> str:
        filename = names.clean(part.filename)
        if self.settings.naming == "original":
            filename = names.with_suffix(filename, names.random_token())
        elif self.settings.naming == "content":
            filename = part.staged.sha256 + names.split_extension(filename)[1]
        else:
            filename = names.random_token() + names.random_token() + names.split_extension(filename)[1]
        folder_of = self.settings.upload_to
        folder = dated if isinstance(folder_of, str) else _folder(folder_of(part.field, part.filename, environ))
        return names.check(f"{folder}/{filename}" if folder else filename)

    def _dated(self) -> str:
        """Return the folder of all files of a request that is received now; "" if each is asked for its own."""
        if not isinstance(self.settings.upload_to, str):
            return ""
        return _folder(time.strftime(self.settings.upload_to, time.gmtime(self._clock())))


def _folder(path: str) -> str:
    path = path.strip("/")
    return names.check(path) if path else ""


def _with(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return the settings of a replicator that was passed, with what the middleware alone is told in other words."""
    own = {field.name for field in fields_of(UploadSettings)}
    for name in sorted(changes.keys() - own):
        raise ConfigError(name, "unknown, or a setting of the replicator that was passed as well")
    return replace(settings, **changes)
