"""The files of one request, from their names to their end: published and kept, or withdrawn and gone.

    staged ── publish ──> published ── settle ──> kept
      │                      │
      └── discard, refuse ───┴── discard, refuse ──> gone

``Uploads`` is what the application finds in ``environ["resto.uploads"]``. Staged files stay readable until the
request ends, published or not, because the body that the application reads is made of them. What an answer
means for the files is decided by the middleware, the only caller of ``settle``, ``refuse`` and ``release``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, overload

from .intake import FilePart
from .replicator import Publication, Replicator, Stored

__all__ = ["Upload", "Uploads"]


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
        self._discarded = False

    def __repr__(self) -> str:
        return f"<Upload {self.name!r} {self.size} bytes>"

    @property
    def url(self) -> str:
        """The public URL, which answers once the upload is published."""
        return self._replicator.url(self.name)

    @property
    def path(self) -> str:
        """Where the bytes are: the staged file until the upload is published, then the master's copy."""
        return self._staged.path if self._publication is None else self._replicator.path(self.name)

    def open(self) -> BinaryIO:
        """Open the bytes for reading, as an unbuffered binary file; until the request ends."""
        return self._staged.open()

    def discard(self) -> None:
        """Drop this upload: it will not be published, or is withdrawn everywhere if it was."""
        self._discarded = True
        self.withdraw()

    def publish(self, *, overwrite: bool) -> None:
        """Publish and replicate, once. Raises what ``Replicator.publish`` raises."""
        if self._publication is None and not self._discarded:
            self.stored, self._publication = self._replicator.publish(self._staged, self.name, overwrite=overwrite)

    def withdraw(self) -> None:
        """Take the publication back everywhere, where there is one."""
        publication, self._publication, self.stored = self._publication, None, None
        if publication is not None:
            self._replicator.withdraw(publication)

    def release(self) -> None:
        """End the request: what is published stands, everything staged is removed."""
        if self._publication is not None:
            self._replicator.forget(self._publication)
        self._staged.discard()


class Uploads(Sequence[Upload]):
    """The uploads of one request, in the order of the form."""

    def __init__(self, uploads: Sequence[Upload], *, overwrite: bool = False) -> None:
        self._uploads = tuple(uploads)
        self._overwrite = overwrite

    def publish(self) -> None:
        """Publish and replicate every upload that is not discarded, all or none.

        For an application that must know before it commits. Raises ReplicationError where too few hosts hold one,
        MediaRootError where the disk refuses; whatever this call had published is withdrawn then.
        """
        before = [upload for upload in self if upload.stored is not None]
        try:
            for upload in self:
                upload.publish(overwrite=self._overwrite)
        except BaseException:
            for upload in self:
                if upload not in before:
                    upload.withdraw()
            raise

    def withdraw(self) -> None:
        """Take every publication back."""
        for upload in self:
            upload.withdraw()

    def release(self) -> None:
        """End the request for every upload."""
        for upload in self:
            upload.release()

    @overload
    def __getitem__(self, index: int) -> Upload: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Upload]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._uploads[index]

    def __len__(self) -> int:
        return len(self._uploads)
