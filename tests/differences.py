"""Where a parser may show another form than the one that we take: a closed list, each line with its reason.

None of these differences gives an application a file that was not checked, or hides one that is published. All else
that a parser shows is told in words.
"""

from __future__ import annotations

import html
import io
import re

from readers import READERS, Refused, Seen

from resto_wsgi import names
from resto_wsgi.config import Limits
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.upload.form import EmptyPart, FilePart, Form, TextPart
from resto_wsgi.upload.intake import FILE_IN_MEMORY, receive

__all__ = ["difference_of", "joined", "received"]

# Why a parser may refuse a form that we take: the application answers with an error then, and nothing is published.
REFUSALS = {
    "django": "Request max total header size exceeded",  # 1,024 bytes for all headers of a part
    # The charset of the request, an .mht file, the charset of a text, of a picker that was left empty.
    "cgi": "expected to be submitted in UTF-8|Invalid boundary|unknown encoding|codec can't|^POST$",
    "multipart": "codec can't decode|unknown encoding",  # of a text
}
# Charsets by which parsers decode a text, whose bytes are the same for all: UTF-8, the request's, or that of the part.
CHARSETS = ("utf-8", "iso-8859-1", "ascii")


def received(root: MediaRoot, content_type: str, body: bytes, **environ: str) -> Form:
    """Return the form as we take it. Raises UploadRejected."""
    given = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body)), **environ, "wsgi.input": io.BytesIO(body)}
    return receive(given, Limits(), lambda: root.stage(FILE_IN_MEMORY), lambda *_: None)


def joined(form: Form) -> bytes:
    """Return the body that the application is handed."""
    return b"".join(piece if isinstance(piece, bytes) else piece.held or b"" for piece in form.pieces)


def difference_of(name: str, form: Form, body: bytes, content_type: str) -> str:
    """Say what a parser sees that is neither what we see nor one of the listed differences."""
    try:
        seen = READERS[name](body, content_type)
    except Refused as error:
        return "" if re.search(REFUSALS.get(name, "(?!)"), str(error)) else f"refuses it: {error}"
    files = [(part, content_of(part)) for part in form.files]
    # A picker that was left empty is a file without a name for some, an empty text for others.
    pickers = [field_as_read(part.field) for part in form.parts if isinstance(part, EmptyPart)]
    shown = [each for each in seen.files if each[1] or each[2] or each[0] not in pickers]
    if len(shown) != len(files) or not all(any(same_file(name, *mine, each) for each in shown) for mine in files):
        return f"files {shown}, ours {[(part.field, part.filename, content) for part, content in files]}"
    texts = [part for part in form.parts if isinstance(part, TextPart)]
    return "" if same_texts(texts, pickers, seen) else f"texts {seen.texts}, ours {texts}"


def content_of(part: FilePart) -> bytes:
    assert part.staged.held is not None
    return part.staged.held


def same_file(reader: str, part: FilePart, content: bytes, seen: tuple[str, str, bytes]) -> bool:
    field, filename, bytes_ = seen
    return field_as_read(field) == field_as_read(part.field) and bytes_ == content and same_name(reader, part, filename)


def same_texts(texts: list[TextPart], pickers: list[str], seen: Seen) -> bool:
    left = list(seen.texts)
    for text in texts:
        utf_8 = text.raw.decode("utf-8", "replace").encode()  # which WebOb decodes once more, by the charset
        values = {text.raw, *(decoded(raw, charset) for charset in charsets_of(text) for raw in (text.raw, utf_8))}
        same = [each for each in left if field_as_read(each[0]) == field_as_read(text.field) and each[1] in values]
        if not same:
            return False
        left.remove(same[0])
    return all(not value and field_as_read(field) in pickers for field, value in left)


def field_as_read(field: str) -> str:
    """Return a field's name without what some parsers decode and others leave: a quote or line end that was encoded."""
    return re.sub('%22|%0D|%0A|["\r\n]', "", field)


def same_name(reader: str, part: FilePart, filename: str) -> bool:
    """True if a parser's name for a file is one of ours, but for what follows, none of which changes its extension."""
    for ours in (part.filename, *part.other_filenames):
        # Django decodes it by the charset of the request, WebOb by that of the part; both are like ASCII.
        readings = {as_read(decoded(ours.encode(), charset)) for charset in CHARSETS}
        extensions = {extension(decoded(ours.encode(), charset)) for charset in CHARSETS}
        if any(as_read(filename).endswith(each) for each in readings) and extension(filename) in extensions:
            return True
    # Werkzeug keeps a filename* that is in quotes as it stands.
    return reader == "werkzeug" and filename.startswith('"') and filename.endswith('"')


def extension(filename: str) -> str:
    return names.extension_of(names.clean(filename))


def charsets_of(text: TextPart) -> set[str]:
    return {*CHARSETS, *re.findall(r'charset="?([^";]*)', text.type_header)}


def decoded(raw: bytes, charset: str) -> str:
    try:
        return raw.decode(charset, "replace")
    except LookupError:
        return ""


def as_read(filename: str) -> str:
    """Return a filename without what parsers treat differently.

    Some decode %22, %0D and %0A, some take the last segment of a path or drop its backslashes; Django decodes HTML's
    character references, too, and drops what cannot be printed.
    """
    last = re.split(r"[/\\]", html.unescape(filename))[-1]
    return "".join(filter(str.isprintable, re.sub('%22|%0D|%0A|"', "", last)))
