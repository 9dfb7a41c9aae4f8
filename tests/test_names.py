"""Names: whatever a client sends becomes a safe segment, and nothing that could leave the media root passes."""

from __future__ import annotations

import os
import re
import unicodedata
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from resto_wsgi import names
from resto_wsgi.errors import NameRejected

# Any code point, half surrogates included, and often the ones that matter.
POINTED = st.sampled_from(
    [*"./\\~ -_:%?#*<>|\"'\x00\n\t\x7f", "\u0301", "\u0338", "\u202e", "\u200b", "\u2028", "é", "😀"]
)
ANY_TEXT = st.text(POINTED | st.characters(codec=None), max_size=400)
WORDY = st.lists(
    st.sampled_from(
        ["con", "COM¹", "lpt9", "nul", "CONIN$", ".", "..", "~", " ", "/", "\\", "a", "jpg", "é" * 90, "~" * 300]
    ),
    max_size=8,
).map("".join)
FILENAMES = ANY_TEXT | WORDY
CHECKED = st.lists(FILENAMES.map(names.clean), min_size=1, max_size=4).map("/".join)

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"
}


def reason(name: object) -> str:
    with pytest.raises(NameRejected) as caught:
        names.check(name)  # type: ignore[arg-type]
    return caught.value.reason


# check


@pytest.mark.parametrize(
    "name", ["a", "uploads/2026/11/cat-k3x9.jpg", "a b/#?%+;é", "'\"<>:|*", "a..b", "a.", "~a", "日本/語.txt", "-rf"]
)
def test_check_returns_a_clean_relative_path_unchanged(name):
    """Every character that no server or shell of ours interprets is allowed."""
    assert names.check(name) == name


def test_check_returns_nfc():
    """Two spellings of one text are one name."""
    assert names.check("e\u0301.jpg") == "\u00e9.jpg"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (None, "is not a string"),
        (b"a", "is not a string"),
        ("", "is empty"),
        ("/etc/passwd", "is absolute; give it relative to the media root"),
        ("//host/a", "is absolute; give it relative to the media root"),
        ("a\\b", "holds a backslash"),
        ("a\0", "holds a control character, U+0000"),
        ("a\nb", "holds a control character, U+000A"),
        ("a\x7f", "holds a control character, U+007F"),
        ("a\x85", "holds a control character, U+0085"),
        ("a\udc80", "holds half of a surrogate pair, U+DC80"),
        ("a\u2028b", "holds a line separator, U+2028"),
        ("a\u2029b", "holds a paragraph separator, U+2029"),
        ("cat\u202egpj.exe", "holds an invisible format character, U+202E"),
        ("a\u200bb", "holds an invisible format character, U+200B"),
        ("a//b", "has an empty part, or ends with a slash"),
        ("a/", "has an empty part, or ends with a slash"),
        (".", "has a part that is . or .."),
        ("a/./b", "has a part that is . or .."),
        ("a/../../b", "has a part that is . or .."),
        ("..", "has a part that is . or .."),
        (".resto/staging/x", "has a part that begins with a dot"),
        ("a/.htaccess", "has a part that begins with a dot"),
        ("...", "has a part that begins with a dot"),
        ("a.jpg.123.4~", "has a part that ends with ~, as the temporary files of media servers do"),
        ("a~/b", "has a part that ends with ~, as the temporary files of media servers do"),
    ],
)
def test_check_rejects(name, why):
    """What could leave the media root, hide in it, or forge a log line is refused, and the reason says which."""
    assert reason(name) == why


def test_a_segment_has_at_most_240_bytes():
    """The limit is in UTF-8 bytes, of the NFC form."""
    assert names.check("é" * 120)
    assert names.check("e\u0301" * 120)
    assert reason("é" * 120 + "a") == "has a part of more than 240 bytes"
    assert reason("a/" + "b" * 241 + "/c") == "has a part of more than 240 bytes"


def test_a_name_has_at_most_1024_bytes():
    """The limit is on the whole path, so that its URL stays short enough for every server."""
    longest = "/".join(["a" * 204] * 5)
    assert len(names.check(longest)) == 1024
    assert reason(longest + "a") == "is longer than 1024 bytes"


def test_check_refuses_a_huge_name_before_it_normalises_it(monkeypatch):
    """Normalising a long run of accents costs quadratic time."""
    monkeypatch.setattr(names, "unicodedata", None)
    assert reason("a" + "\u0301\u0316" * 2_000_000) == "is longer than 1024 bytes"


def test_check_measures_the_normal_form():
    """Four code points can become one, so a name of more code points than the limit may still fit."""
    decomposed = unicodedata.normalize("NFD", "\u1f82")
    assert len(decomposed) == names.DECOMPOSED
    longest = "/".join(["\u1f82" * 80] * 4)
    assert names.check(unicodedata.normalize("NFD", longest)) == longest


def test_no_code_point_decomposes_into_more_than_the_bound():
    """The bound before normalising must never refuse a name that would fit."""
    assert max(len(unicodedata.normalize("NFD", chr(point))) for point in range(0x110000)) == names.DECOMPOSED


@given(CHECKED | ANY_TEXT)
@example("..%2f..")
def test_a_checked_name_stays_below_the_media_root(name):
    """Joining it to the root and normalising the path leads to that very place in the root."""
    try:
        checked = names.check(name)
    except NameRejected:
        assume(False)
    joined = os.path.join("/srv/media", checked)
    assert os.path.normpath(joined) == joined
    assert joined.startswith("/srv/media/")
    assert not checked.startswith(".resto")


@given(ANY_TEXT)
def test_check_never_raises_anything_else(name):
    """A name is returned, or rejected with a reason that is one line of ASCII."""
    try:
        assert names.check(name) == unicodedata.normalize("NFC", name)
    except NameRejected as error:
        assert error.reason.isascii()
        assert error.reason.isprintable()


# clean


@pytest.mark.parametrize(
    ("filename", "cleaned"),
    [
        ("cat.jpg", "cat.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("a/b\\c", "c"),
        ("dir/", "file"),
        ("", "file"),
        ("..", "file"),
        (" . ~ ", "file"),
        ("\u202e\u200b", "file"),
        (".htaccess", "htaccess"),
        ("~$report.docx ", "$report.docx"),
        ("-rf", "rf"),
        ("--", "file"),
        ("-.-~ a-b.txt", "a-b.txt"),
        ("dir/-rf x.jpg", "rf x.jpg"),
        ("~root", "root"),
        ("a.txt. ", "a.txt"),
        ("-con.txt", "_con.txt"),
        (". NUL .", "_NUL"),
        ("notes.txt~", "notes.txt"),
        ("a\r\nSet-Cookie: b", "aSet-Cookie_ b"),
        ("a\u2028\u00a0  b", "a b"),
        ('<i>"a|b"?*', "_i__a_b___"),
        ("a\udc80b\ue000c\uffff", "abc"),
        ("e\u0301\u200d.jpg", "é.jpg"),
        ("e\u200b\u0301.jpg", "é.jpg"),
        ("<\u0338", "\u226e"),
        ("Übersicht 2026 (1)#%+;&'.pdf", "Übersicht 2026 (1)#%+;&'.pdf"),
        ("con", "_con"),
        ("NUL.tar.gz", "_NUL.tar.gz"),
        ("Com1 .txt", "_Com1 .txt"),
        ("LPT².x", "_LPT².x"),
        ("conin$", "_conin$"),
        ("COM10", "COM10"),
        ("console.log", "console.log"),
        ("nul" + "~" * 300 + ".txt", "_nul.txt"),
    ],
)
def test_clean_makes_one_safe_segment_of(filename, cleaned):
    """Folders go, what is invisible or hidden goes, and what Windows refuses is replaced."""
    assert names.clean(filename) == cleaned


@given(FILENAMES)
@example("CON." + "a" * 196)
@example("a" * 189 + "." + "b" * 18 + "~")
@example("x" * 3000 + "\u0301" * 3000)
def test_a_cleaned_filename_is_safe_everywhere(filename):
    """It passes ``check`` as a single segment that Windows takes as well, and cleaning again changes nothing."""
    cleaned = names.clean(filename)
    assert names.check(cleaned) == cleaned
    assert names.clean(cleaned) == cleaned
    assert len(cleaned.encode()) <= names.MAX_CLEAN
    assert not set(cleaned) & set('<>:"|?*/\\')
    assert cleaned.partition(".")[0].rstrip(" ").upper() not in DEVICES
    assert cleaned == cleaned.lstrip(". ~-").rstrip(". ~")


def test_clean_cuts_the_stem_and_keeps_the_extension():
    """A long filename loses its middle, so that its type is still known."""
    cleaned = names.clean("é" * 150 + ".jpeg")
    assert cleaned == "é" * 97 + ".jpeg"


def test_clean_cuts_an_extension_that_is_none():
    """What follows the last dot is kept whole up to 20 bytes only."""
    assert names.clean("a" * 200 + "." + "b" * 19) == "a" * 180 + "." + "b" * 19
    assert names.clean("a." + "b" * 300) == "a." + "b" * 198


def test_clean_parts_no_letter_from_its_accents():
    """Where the limit falls between a letter and its accents, the letter goes too."""
    assert names.clean("a" * 199 + "x\u0316\u0317") == "a" * 199
    assert names.clean("a" * 197 + "x\u0316\u0317") == "a" * 197


def test_clean_cuts_even_among_accents():
    """A filename of nothing but accents is cut all the same."""
    assert names.clean("\u0316" * 300) == "\u0316" * 100


def test_clean_looks_at_both_ends_of_a_huge_filename(monkeypatch):
    """The extension of a filename of megabytes is found, and its middle is never normalised."""

    def normalize(form: str, text: str) -> str:
        assert len(text) <= 2 * names.READ
        return unicodedata.normalize(form, text)

    monkeypatch.setattr(names, "unicodedata", SimpleNamespace(category=unicodedata.category, normalize=normalize))
    assert names.clean("a" * 5_000_000 + ".png") == "a" * 196 + ".png"


PLAINISH = st.text(st.sampled_from("aZ0_-. ~/\\é"), max_size=12) | st.builds(
    str.__add__, st.sampled_from(["con.", "nul", "a" * 197, "a" * 237]), st.text(st.sampled_from("ab. /"), max_size=5)
)


@given(PLAINISH)
@example("a\n")
def test_what_is_plain_at_a_glance_is_judged_and_cleaned_as_all_else(text):
    """The quick look at plain names and filenames changes no answer."""

    def answers() -> tuple[str, str]:
        try:
            return names.clean(text), names.check(text)
        except NameRejected as error:
            return names.clean(text), error.reason

    quick = answers()
    never = re.compile("(?!)")
    with mock.patch.multiple(names, _PLAIN_NAME=never, _PLAIN_FILENAME=never):
        assert answers() == quick


# extensions, suffixes, tokens


@pytest.mark.parametrize(
    ("segment", "parts"),
    [
        ("cat.jpg", ("cat", ".jpg")),
        ("archive.tar.gz", ("archive.tar", ".gz")),
        ("x", ("x", "")),
        ("x.", ("x.", "")),
        (".bashrc", (".bashrc", "")),
        ("..a", ("..a", "")),
        (".a.b", (".a", ".b")),
        ("Mr. Smith", ("Mr. Smith", "")),
        ("a." + "b" * 19, ("a", "." + "b" * 19)),
        ("a." + "b" * 20, ("a." + "b" * 20, "")),
        ("", ("", "")),
    ],
)
def test_split_extension(segment, parts):
    """The last dot parts a stem from its extension, unless what follows is none."""
    assert names.split_extension(segment) == parts
    assert "".join(parts) == segment


def test_extension_of_a_name_is_lower_case_without_its_dot():
    """It is that of the last segment, whatever dots the folders have."""
    assert names.extension_of("a.b/Cat.JPG") == "jpg"
    assert names.extension_of("a.b/cat") == ""


def test_with_suffix_goes_before_the_extension():
    """The folders and the type of the file stay as they are."""
    assert names.with_suffix("dir/cat.jpg", "k3x9") == "dir/cat-k3x9.jpg"
    assert names.with_suffix("cat", "k3x9") == "cat-k3x9"
    assert names.with_suffix("v1.2/cat", "k3x9") == "v1.2/cat-k3x9"


def test_a_suffix_that_leaves_no_stem_begins_with_no_hyphen():
    """A command would take the name for an option."""
    folders = "/".join(["a" * 203] * 5)
    assert names.with_suffix(folders + "/b", "k3x") == folders + "/k3x"


def test_with_suffix_cuts_the_stem_to_the_limit_of_a_segment():
    """The longest name still has room for its suffix."""
    assert names.with_suffix("d/" + "a" * 236 + ".jpg", "k3x9") == "d/" + "a" * 231 + "-k3x9.jpg"


def test_with_suffix_cuts_the_stem_to_the_limit_of_a_name():
    """The folders count as well."""
    folders = "/".join(["a" * 203] * 5)
    assert len(folders) == 1019
    with pytest.raises(NameRejected, match="longer than 1024 bytes"):
        names.with_suffix(folders + "/b", "k3x9y")
    assert names.with_suffix(folders[:-10] + "/" + "b" * 14, "k3x9") == folders[:-10] + "/" + "b" * 9 + "-k3x9"


@given(CHECKED, st.text("abc123", min_size=1, max_size=20))
def test_a_name_with_a_suffix_is_a_name(name, suffix):
    """It passes ``check``, keeps its folder and its extension, and is another one."""
    varied = names.with_suffix(names.check(name), suffix)
    assert names.check(varied) == varied
    assert os.path.dirname(varied) == os.path.dirname(name)
    assert names.extension_of(varied) == names.extension_of(name)
    assert varied != name


def test_random_token_takes_its_chance_from_outside():
    """A test chooses; the length is an argument."""
    assert names.random_token(lambda alphabet: alphabet[-1]) == "z" * 10
    assert names.random_token(lambda alphabet: alphabet[0], 3) == "000"


def test_random_tokens_differ_and_hold_no_confusing_character():
    """50 bits never repeat in a thousand, and 32 characters carry 5 bits each."""
    tokens = {names.random_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch(r"[0-9a-hjkmnp-tv-z]{10}", token) for token in tokens)
    assert len(set(names.TOKEN_ALPHABET)) == 32
    assert set("".join(tokens)) == set(names.TOKEN_ALPHABET)


# quote


def test_quote_encodes_all_but_unreserved_characters_and_slashes():
    """Nothing in a name is taken for a query, a fragment or an escape."""
    assert names.quote("a b/#?%+;é&=:@~.txt") == "a%20b/%23%3F%25%2B%3B%C3%A9%26%3D%3A%40~.txt"


@given(CHECKED)
def test_a_quoted_name_survives_the_client(name):
    """urllib3 sends the path as it was quoted, and a server that decodes it finds the name."""
    quoted = names.quote(name)
    url = parse_url(f"http://media-01:8080/base/{quoted}")
    assert url.request_uri == f"/base/{quoted}"
    assert url.host == "media-01"
