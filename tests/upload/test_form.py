"""A form holds its parts, and lets go of its files."""

from __future__ import annotations

from pathlib import Path

from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.upload.form import EmptyPart, FilePart, Form, TextPart


def test_text_that_is_no_utf_8_is_readable() -> None:
    """The value of a text is its UTF-8, with U+FFFD for the rest; ``raw`` keeps the bytes."""
    part = TextPart("a", b"caf\xc3\xa9 \xff")
    assert (part.value, part.raw) == ("caf\xe9 \ufffd", b"caf\xc3\xa9 \xff")


def test_a_form_discards_its_files(tmp_path: Path) -> None:
    """Once or twice; of its parts the files are files."""
    root = MediaRoot(str(tmp_path), fsync=False)
    staged = root.stage()
    file = FilePart("f", "a.txt", "text/plain", "", staged)
    form = Form([TextPart("t", b""), file, EmptyPart("e")], [b"literal", staged])
    assert form.files == [file]
    path = Path(staged.path)
    assert path.exists()
    form.discard()
    form.discard()
    assert not path.exists()
    root.close()
