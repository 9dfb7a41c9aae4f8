"""The files of one request, from their names to their end: published and kept, or withdrawn and gone.

    staged ── publish ──> published ── release ──> kept
      │ ^                    │ │
      │ └───── withdraw ─────┘ └── discard ──> gone
      └── release, discard ──────────────────> gone

``Uploads`` is what the application finds in ``environ["resto.uploads"]``. Staged files stay readable until the
request ends, published or not, because the body that the application reads is made of them. What an answer means for
the files is decided by ``Verdict``, the only caller of ``withdraw`` and ``release``. They belong to the process that
received them: one that the application forks meanwhile reads them and changes nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, overload

from ..errors import RestoError
from ..forks import this_process
from ..replicator import Publication, Replicator, Stored
from .form import FilePart

__all__ = ["KEY", "Upload", "Uploads", "uploads_of"]

KEY = "resto.uploads"


class Upload:
    """A file that a client sent, with the name that it has or will have.

    ``field`` and ``filename`` are the client's words, and ``content_type`` its claim; ``name``, ``url``, ``size`` in
    bytes and ``sha256`` in hexadecimal are ours.
    """

    def __init__(self, part: FilePart, replicator: Replicator) -> None:
        self.field = part.field
        self.filename = part.filename
        self.content_type = part.content_type
        self.size = part.staged.size
        self.sha256 = part.staged.sha256
        self.name = ""  # given by the middleware before anybody else sees this
        self.stored: Stored | None = None
        self._staged = part.staged
        self._replicator = replicator
        self._publication: Publication | None = None
        self._process = this_process()
        self._discarded = False
        self._released = False

    def __repr__(self) -> str:
        return f"<Upload {self.name!r} {self.size} bytes>"

    @property
    def url(self) -> str:
        """The public URL, which answers once the upload is published."""
        return self._replicator.url(self.name)

    @property
    def path(self) -> str:
        """Where the bytes are: the staged file until the upload is published, then the master's copy.

        In mode distributed the staged file, which is there until the request ends. Raises MediaRootError if the upload
        is so small that it was in memory, and the disk refuses it.
        """
        if self._publication is None or self._replicator.settings.mode == "distributed":
            return self._staged.path
        return self._replicator.path(self.name)

    def open(self) -> BinaryIO:
        """Open the bytes for reading, as an unbuffered binary file; until the request ends. Raises as ``path`` does."""
        return self._staged.open()

    def discard(self) -> None:
        """Drop this upload: it will not be published, or is withdrawn everywhere if it was.

        Raises RestoError in a forked process, and after the request has ended; ``Replicator.delete`` is for what was
        kept.
        """
        self._check_open()
        self._discarded = True
        self.withdraw()

    def publish(self, *, overwrite: bool) -> None:
        """Publish and replicate, once. Raises what ``Replicator.publish`` raises."""
        self._check_open()
        if self._publication is None and not self._discarded:
            self._staged.spill()  # if the disk refuses it, nobody has heard of the name yet
            self.stored, self._publication = self._replicator.publish(self._staged, self.name, overwrite=overwrite)

    def withdraw(self) -> None:
        """Take the publication back everywhere, if there is one."""
        if self._publication is not None:
            self._replicator.withdraw(self._publication)
            self._publication = self.stored = None  # only now: a withdrawal that failed can be repeated

    def release(self) -> None:
        """End the request: what is published stands, everything staged is removed."""
        if self._publication is not None:
            self._replicator.keep(self._publication)
        self._staged.discard()
        self._released = True

    def _check_open(self) -> None:
        if self._released:
            raise RestoError("the request of this upload has ended; what is published now stands")
        if self._process != this_process():
            raise RestoError("this upload belongs to the process that received it, not to one forked meanwhile")


class Uploads(Sequence[Upload]):
    """The uploads of one request, in the order of the form.

    ``uploads[name]`` is the one that has or will have this name, and KeyError for any other text: so a name that came
    through a form, whoever wrote it there, leads to no file but those of the very request.
    """

    def __init__(self, uploads: Sequence[Upload], *, overwrite: bool = False) -> None:
        self._uploads = tuple(uploads)
        self._overwrite = overwrite
        self._lock = threading.RLock()  # an application may share its request with threads of its own

    def publish(self) -> None:
        """Publish and replicate every upload that is not discarded, all or none.

        For an application that must know before it commits. Raises ReplicationError if too few hosts hold one,
        MediaRootError if the disk refuses; whatever this call had published is withdrawn then.
        """
        with self._lock:
            before = [upload for upload in self if upload.stored is not None]
            try:
                for upload in self:
                    upload.publish(overwrite=self._overwrite)
            except BaseException:
                with contextlib.suppress(RestoError):  # the cause is what the caller must hear of
                    self._withdraw([upload for upload in self if upload not in before])
                raise

    def discard(self) -> None:
        """Drop every upload: none will be published, and those that were are withdrawn everywhere.

        For an application that answers below 400 and does not want the files. Raises what ``Upload.discard`` raises.
        """
        with self._lock:
            for upload in reversed(self):
                upload.discard()

    def withdraw(self) -> None:
        """Take every publication back. Raises the first error after it tried them all; it can be repeated."""
        with self._lock:
            self._withdraw(self)

    def _withdraw(self, uploads: Sequence[Upload]) -> None:
        errors = []
        for upload in reversed(uploads):  # of two with one name the later one goes first
            try:
                upload.withdraw()
            except RestoError as error:  # noqa: PERF203 - each is tried
                errors.append(error)
        if errors:
            raise errors[0]

    def release(self) -> None:
        """End the request for every upload; a publication under way in a thread of the application ends first."""
        with self._lock:
            for upload in self:
                upload.release()

    @overload
    def __getitem__(self, index: int) -> Upload: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Upload]: ...
    @overload
    def __getitem__(self, index: str) -> Upload: ...
    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, str):
            return self._uploads[index]
        for upload in self._uploads:
            if upload.name == index:
                return upload
        raise KeyError(index)

    def __iter__(self) -> Iterator[Upload]:
        return iter(self._uploads)  # Sequence's own asks for each index, which a form of many small files would feel

    def __len__(self) -> int:
        return len(self._uploads)


def uploads_of(environ: Mapping[str, Any]) -> Uploads:
    """Return the uploads of a request, in any framework; none if it was not caught, as a GET or another site's form."""
    uploads: Uploads = environ.get(KEY) or Uploads(())
    return uploads
