"""Two readers of one body: whatever form we take, each parser of the frameworks reads the same files in it as we do.

Thousands of forms are drawn from seeds, which are the names of the tests; ``RESTO_FORMS=100000`` draws that many for
each seed. Where a parser shows something else, that is one of the differences that are listed here with their reasons,
none of which gives an application a file that was not checked, or hides one that is published.
"""

from __future__ import annotations

import html
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from random import Random

import django.conf
import pytest
from django.conf import UserSettingsHolder, global_settings
from forms import draw_form
from readers import READERS, Refused, Seen

from resto_wsgi import names
from resto_wsgi.errors import UploadRejected
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.upload.form import EmptyPart, FilePart, Form, TextPart
from resto_wsgi.upload.intake import FILE_IN_MEMORY, Limits, receive

SEEDS = range(1, 9)
FORMS = int(os.environ.get("RESTO_FORMS", "1500"))  # for each seed
TAKEN = 0.25  # of the forms that are drawn; where nearly all are refused, nothing is compared

# Why a parser may refuse a form that we take: the application answers with an error then, and nothing is published.
REFUSALS = {
    "django": "Request max total header size exceeded",  # 1,024 bytes for all headers of a part
    # The charset of the request, an .mht file, the charset of a text, of a picker that was left empty.
    "cgi": "expected to be submitted in UTF-8|Invalid boundary|unknown encoding|codec can't|^POST$",
    "multipart": "codec can't decode|unknown encoding",  # of a text
}
# Charsets by which parsers decode a text, whose bytes are the same for all: UTF-8, the request's, or that of the part.
CHARSETS = ("utf-8", "iso-8859-1", "ascii")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaRoot]:
    root = MediaRoot(str(tmp_path_factory.mktemp("media")), fsync=False)
    yield root
    root.close()


@pytest.fixture(scope="module", autouse=True)
def django_settings() -> Iterator[None]:
    """Give Django's parser the default settings, without configuring Django for the tests of other modules."""
    before = django.conf.settings._wrapped
    django.conf.settings._wrapped = UserSettingsHolder(global_settings)
    yield
    django.conf.settings._wrapped = before


@pytest.fixture(autouse=True)
def without_words() -> Iterator[None]:
    """Keep what parsers log and warn of in thousands of forms to themselves."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def received(root: MediaRoot, content_type: str, body: bytes) -> Form:
    environ = {
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return receive(environ, Limits(), lambda: root.stage(FILE_IN_MEMORY), lambda *_: None)


def joined(form: Form) -> bytes:
    return b"".join(piece if isinstance(piece, bytes) else piece.held or b"" for piece in form.pieces)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_parser_reads_a_form_that_we_take_as_we_do(root: MediaRoot, seed: int) -> None:
    """Files, fields, names and bytes, of forms as drawn and with a few bytes changed; and we hand on what was sent."""
    print(f"seed {seed}, {FORMS} forms")
    random, taken = Random(seed), 0
    for number in range(FORMS):
        content_type, body = draw_form(random)
        try:
            form = received(root, content_type, body)
        except UploadRejected as error:
            assert error.http_status in (400, 413)
            continue
        taken += 1
        assert joined(form) == body
        for name in READERS:
            if difference := difference_of(name, form, body, content_type):
                pytest.fail(f"seed {seed}, form {number}, {name}: {difference}\n{content_type}\n{body!r}")
        form.discard()
    assert taken > TAKEN * FORMS


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
