"""Two readers of one body: whatever form we take, each parser of the frameworks reads the same files in it as we do.

Thousands of forms are drawn from seeds, which are in the names of the tests; ``RESTO_FORMS=100000`` draws that many for
each seed. What a parser may show otherwise is listed in ``differences.py``.
"""

from __future__ import annotations

import os
from random import Random

import pytest
from clients import CLIENTS, CONTENT, FILENAMES, TITLE
from differences import difference_of, joined, received
from forms import draw_form
from readers import READERS

from resto_wsgi.errors import UploadRejected
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.upload.form import TextPart

SEEDS = range(1, 9)
FORMS = int(os.environ.get("RESTO_FORMS", "1500"))  # for each seed
TAKEN = 0.25  # of the forms that are drawn; if nearly all were refused, nothing would be compared


@pytest.mark.usefixtures("parsers")
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


@pytest.mark.usefixtures("parsers")
@pytest.mark.parametrize("client", CLIENTS)
def test_no_client_is_refused(root: MediaRoot, client: str) -> None:
    """What browsers, libraries and careless authors send is taken, and each parser reads the same in it."""
    content_type, body = CLIENTS[client]()
    form = received(root, content_type, body)
    (file,) = form.files
    assert (file.field, file.filename in FILENAMES, file.staged.held) == ("photo", True, CONTENT)
    assert [(part.field, part.value) for part in form.parts if isinstance(part, TextPart)] == [("title", TITLE)]
    assert joined(form) == body
    assert {name: difference_of(name, form, body, content_type) for name in READERS} == dict.fromkeys(READERS, "")
    form.discard()
