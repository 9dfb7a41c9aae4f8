"""Does every name that `names.check` takes make a file of its own?

The probes only ask and judge: what to change is in ``remedies``, and what they wrote is removed by ``cleaning``.
``run`` calls them.
"""

from __future__ import annotations

from .. import names
from .finding import Finding, Trouble
from .subject import Subject
from .writing import difference

__all__ = ["case", "characters", "longest"]

ODD = ("#", "?", "%", "+", ";", "é", " ", "&", "'", '"', "<", ":", "*", "|", "=", "@", "日", "🎉", "%41", "%2e", "%00")
EXTENSION = ".jpg"


def longest(subject: Subject) -> list[Finding]:
    """Names are as long as `names` lets them be, in one part and in all."""
    room = names.MAX_SEGMENT - len(EXTENSION)
    part = "n" * room + EXTENSION
    wide = "é" * (room // 2) + EXTENSION
    for name, what in ((part, "letters"), (wide, "bytes of é")):
        problem = _trouble(subject, subject.name(name))
        if problem:
            holds = _longest_held(subject, room)
            return [
                subject.found("longest", "unsafe", f"a name of {names.MAX_SEGMENT} {what}: {problem}; it holds {holds}")
            ]
    deep = _deep(subject)
    problem = _trouble(subject, deep)
    if problem:
        return [subject.found("longest", "unsafe", f"a path of {len(deep)} bytes: {problem}")]
    return [Finding("longest", "ok", f"{names.MAX_SEGMENT} bytes in one part, {len(deep):,} in all")]


def characters(subject: Subject) -> list[Finding]:
    """Whatever stands in a name is kept, and two names are two files."""
    whole = subject.name("odd/" + "".join(ODD) + EXTENSION)
    if _trouble(subject, whole):
        bad = {each: _trouble(subject, subject.name(f"odd/x{each}y{EXTENSION}")) for each in ODD}
        listed = ", ".join(
            f"{each if each != ' ' else 'a space'} ({problem})" for each, problem in bad.items() if problem
        )
        return [subject.found("characters", "unsafe", f"names with these fail: {listed or 'all of them together'}")]
    for odd, plain in (("a?b", "a"), ("a#b", "a"), ("a%41b", "aAb"), ("a+b", "a b"), ("a;b", "a")):
        subject.put(subject.name(f"twin/{odd}"), b"odd")
        if subject.head(subject.name(f"twin/{plain}")) is not None:
            return [subject.found("characters", "unsafe", f"a file stored as {odd} is found as {plain}, too")]
        subject.delete(subject.name(f"twin/{odd}"))
    return [Finding("characters", "ok", "# ? % + ; é, spaces and others come back as they are")]


def case(subject: Subject) -> list[Finding]:
    """Names that differ in case are two files."""
    subject.put(subject.name("Case.jpg"), b"upper")
    if subject.head(subject.name("case.JPG")) is not None:
        return [subject.found("case", "unsafe", "Case.jpg and case.JPG are one file: each overwrites the other")]
    return [Finding("case", "ok", "Case.jpg and case.JPG are two files")]


def _trouble(subject: Subject, name: str) -> str:
    """Store a name and read it back; return what went wrong, "" if nothing did."""
    try:
        subject.put(name, b"x")
        return difference(subject, name, b"x")
    except Trouble as trouble:
        return str(trouble)


def _longest_held(subject: Subject, room: int) -> str:
    """Find how long a name may be, with a handful of tries."""
    good, bad = 8, room
    while bad - good > 1:
        length = (good + bad) // 2
        good, bad = (good, length) if _trouble(subject, subject.name("n" * length + EXTENSION)) else (length, bad)
    return f"{good + len(EXTENSION)} bytes"


def _deep(subject: Subject) -> str:
    """A path of MAX_NAME bytes, in few folders, since each may cost a request."""
    room = names.MAX_NAME - len(subject.folder) - 1
    parts = [f"{number}" + "d" * (names.MAX_SEGMENT - 1) for number in range(room // (names.MAX_SEGMENT + 1))]
    rest = room - sum(len(part) + 1 for part in parts)
    return subject.name("/".join([*parts, "e" * rest]))
