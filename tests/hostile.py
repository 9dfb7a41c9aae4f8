"""Words that break out of a configuration or a shell if they are not quoted, and folders of such names."""

from __future__ import annotations

from pathlib import Path

from hypothesis import assume
from hypothesis import strategies as st
from printed import own

HOSTILE = [
    "with a blank",
    " at both ends ",
    "a;b",
    "a{b}c",
    "}",
    'a"b',
    "a'b",
    'a\\"b',
    "a\\",
    "\\",
    '"; } # ',
    "$uri",
    "${HOME}",
    "${resto}",
    "$",
    "$1",
    "%{REQUEST_URI}",
    "%h%n%%",
    "#comment",
    "a#b",
    "a*b?c[d]e",
    "[a]",
    "~",
    "=",
    "@a",
    "|a",
    "-a",
    "<If>",
    "</Location>",
    "a,b:c",
    "ünï日本🎉",
    '" => "/etc/',
    '" + env.HOME + "',
    "a\\nb",
    "a\tb",
    "a\nb",
    "a\rb",
    "a\u2028b",
    "a\u00a0b",
    "a\x7fb",
    "a\udcffb",
    "...",
    "x" * 255,
]
WORDS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text("\\\"'${}();#%*?[]<>|~ ab\n", min_size=1, max_size=12),
    st.text(min_size=1, max_size=30),
).filter(lambda word: "/" not in word and "\0" not in word and word not in (".", ".."))


def made_folder(folder: Path, word: str) -> Path:
    """Make a folder of that name; a name that the disk does not take is not tried."""
    assume(len(word.encode(errors="surrogateescape" if not _is_utf8(word) else "strict")) <= 255)
    path = folder / word
    path.mkdir(exist_ok=True)
    own(path)
    return path


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        assume(all(not "\ud800" <= each <= "\udfff" or "\udc80" <= each <= "\udcff" for each in word))
        return False
    return True
