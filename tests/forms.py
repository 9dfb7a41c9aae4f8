"""Draws multipart forms as clients, careless authors and attackers write them: from one seed always the same.

What is drawn is a request's Content-Type and its body. Most of them are near what is right: a form in which one or two
things are unusual, or that was changed in a few places, since what is wrong everywhere is refused by everybody.
"""

from __future__ import annotations

from random import Random

__all__ = ["draw_form"]

BOUNDARIES = [
    "B",
    "B",
    "B",
    "----WebKitFormBoundaryX",
    "AaB03x",
    "a$",
    "*****",
    "*****",
    "a$",
    "-",
    "--",
    "x'y",
    "----=_Part_0",
    "AaB03x",
]
TYPES = [
    "multipart/form-data; boundary={0}",
    "multipart/form-data; boundary={0}",
    "multipart/form-data; boundary={0}",
    'multipart/form-data;boundary="{0}"',
    "multipart/form-data; charset=utf-8; Boundary={0}",
    "multipart/form-data; charset=ISO-8859-1; boundary={0}",
    "multipart/form-data; boundary={0}; charset=utf-7",
    "multipart/form-data; boundary = {0}",
    "multipart/form-data; boundary={0}; boundary=C",
    "Multipart/Form-Data; boundary={0}",
    'multipart/form-data; x="; boundary=C"; boundary={0}',
    "multipart/form-data ; boundary={0};",
]
FIELDS = [
    *('"photo"', '"photo"', "photo", '"a b"', '"größe"', '"photo "', '" photo"', '"p\\hoto"', '"%22x"', '""', "'f'"),
    *('"f\\"g"', '"a;b"', '"a=b; filename=x"', '"\xa0photo"', '"f\t"', '"f[]"', '"&#112;hoto"', '"%70hoto"'),
]
FILENAMES = [
    *(
        '"a.jpg"',
        '"a.jpg"',
        '"a.jpg"',
        "a.jpg",
        '""',
        '"ä.jpg"',
        '"日本.jpg"',
        '"a b.jpg"',
        '"a%22b.jpg"',
        '"a\\"b.jpg"',
    ),
    *(
        '"C:\\dir\\a.jpg"',
        '"\\\\srv\\a.jpg"',
        '"d\\a.jpg"',
        '"d/a.jpg"',
        '"../a.jpg"',
        '"/"',
        '".."',
        '"a/.."',
        '"a\\"',
    ),
    *('"a\\\\"', '"a\\\\b.jpg"', '"a\\\\"; x="y.jpg"', '"&#46;&#46;"', '"a&sol;b.jpg"', '"a&#46;jpg"', '"a\tb.jpg"'),
    *('"a;b.jpg"', '"a; filename=b.php"', '"a.php;.jpg"', '"a\x7f.jpg"', '"a\x0bb.jpg"', '"\x85"', '"\u2028.jpg"'),
    *('"=?utf-8?B?w6kudHh0?="', '"a%2Ejpg"', '"a.jpg "', '" .jpg"', "'a.jpg'", "a b.jpg", '"a.jpg', 'a.jpg"', '"a""b"'),
    *('"a%0D%0Ab.jpg"', '"a%00.jpg"', '"%"', '"a.jpg."', '"-rf"', '"~"', '"a.p\\hp"', '"<a>.jpg"', '"(a).jpg"'),
]
EXTENDED = [
    *("UTF-8''a.jpg", "utf-8''%C3%A4.jpg", "UTF-8'en'a%20b.jpg", "\"UTF-8''%C3%A4.jpg\"", "utf-8''\"a.jpg\""),
    *(
        "iso-8859-1''%E4.jpg",
        "utf-7''+AC4-.jpg",
        "punycode''a-b.jpg",
        "utf-16''a",
        "UTF-8''%ff.jpg",
        "UTF-8''",
        "a.jpg",
    ),
    *(
        "''a.jpg",
        "UTF-8''..",
        "UTF-8''a%2Fb.php",
        "UTF-8''a%22.php",
        "UTF-8''a.php",
        "UTF-8''a'b*c.jpg",
        "utf-8''a(b).jpg",
    ),
    *("UTF-8''%0D%0A", "UTF-8''a%00.jpg", "us-ascii''a.jpg"),
]
HEADERS = [
    *("Content-Type: image/jpeg", "Content-Type: image/jpeg", "content-type:text/plain; charset=iso-8859-1"),
    *(
        "Content-Type: text/plain; charset=utf-16",
        "Content-Type: multipart/related",
        "Content-Type: multipart/mixed; boundary=C",
    ),
    *("Content-Type: application/x-www-form-urlencoded", "Content-Transfer-Encoding: binary", "Content-Type:"),
    *(
        "Content-Transfer-Encoding: base64",
        "Content-Transfer-Encoding: UTF-8",
        "Content-Length: 4",
        "Content-Length: 04",
    ),
    *(
        "X-Long: " + "y" * 1100,
        "X: y",
        "X : y",
        "X\t: y",
        "\x0bX: y",
        " folded",
        "\tfolded",
        "X:\ty",
        "no colon",
        ": y",
    ),
    *("MIME-Version: 1.0", "Content-ID: <1>", "X: \x0c", "X: y\nContent-Disposition: form-data; name=z; filename=z"),
    *("X: y\rContent-Disposition: form-data; name=z; filename=z", "Content-Disposition: form-data; name=z; filename=z"),
    *("X: y\r\n Content-Disposition: form-data; name=z; filename=z", "From x@y", "X_Y: z", "X!Y: z", "X: --B", "X: é"),
    *(
        'Content-Type: text/plain; name="x"',
        "Content-Type: text/html\x00",
        "Content-Encoding: gzip",
        "Content-Range: 1",
    ),
]
EVIL = 'Content-Disposition: form-data; name="photo"; filename="evil.html"'
CONTENTS = [
    *(
        "",
        "",
        "text",
        "bytes\r\n",
        "\r\n",
        "\n",
        "\r",
        "-",
        "--",
        "\r\n--",
        "\r\n-",
        "ä",
        "a\0b",
        "x" * 40,
        "\r\n\r\n",
    ),
    *(
        "--{0}",
        "\n--{0}",
        "\r--{0}\r",
        "x--{0}--",
        "\r\n--{0}x",
        "\r\n--{0} \r\n",
        "\r\n--{0}\t\r\n",
        "\r\n--{0}--",
        "--{0}--",
    ),
    *("\n--{0}\n" + EVIL + "\n\nx", "--{0}\r\n" + EVIL + "\r\n\r\nx", "\r\n--{0}\n" + EVIL + "\n\nx", "\r\n --{0}\r\n"),
    *("\r\n--C\r\n" + EVIL + "\r\n\r\nx\r\n--C--", "a=b&photo=c", "\r\n--{0}-\r\n", "\r\n-{0}\r\n", "text"),
]
BEFORE = [
    "",
    "",
    "",
    "",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "preamble\r\n",
    " ",
    "x--{0}\r\n" + EVIL + "\r\n\r\nx\r\n",
    "--{0}x\r\n",
]
AFTER = [
    *("\r\n", "\r\n", "\r\n", "", "\r", "\r\n\r\n", "\n", "epilogue", "\r\nepilogue", " \r\n", "-\r\n"),
    *("\r\n--{0}\r\n" + EVIL + "\r\n\r\nx\r\n--{0}--\r\n", "--{0}\r\n" + EVIL + "\r\n\r\nx\r\n--{0}--\r\n"),
]
LINE_ENDS = ["\r\n"] * 12 + ["\n", "\r", " \r\n", "\r\n ", ""]
TOKENS = [
    *(
        "\r",
        "\n",
        "\r\n",
        '"',
        "\\",
        ";",
        " ",
        "\t",
        "\x0b",
        "\0",
        "=",
        ":",
        "*",
        "%22",
        "&#46;",
        "-",
        "--",
        "--{0}",
        "--{0}--",
    ),
    *(
        "\r\n--{0}\r\n",
        "\r\n\r\n",
        "filename=",
        "; filename=x.php",
        "; name=z",
        "'",
        "a",
        "\x85",
        "é",
        "\xa0",
        "/",
        ".",
        ",",
        "<",
        ">",
    ),
]


def draw_form(random: Random) -> tuple[str, bytes]:
    """Return the Content-Type and the body of a form."""
    boundary = random.choice(BOUNDARIES)
    content_type = random.choice(TYPES if random.random() < 0.1 else TYPES[:6]).format(boundary)
    odd = random.random() < 0.3  # so that most forms have one odd place at most
    parts = [_part(random, boundary, odd) for _ in range(random.choice([0, 1, 1, 2, 2, 3, 5]))]
    before = random.choice(BEFORE) if random.random() < 0.1 else ""
    after = random.choice(AFTER) if random.random() < 0.15 else "\r\n"
    text = before + "".join(parts) + "--{0}--" + after
    body = text.replace("{0}", boundary).encode("utf-8", "surrogateescape")
    for _ in range(random.choice([0, 0, 0, 0, 0, 1, 1, 2])):
        body = _changed(random, body, boundary)
    if random.random() < 0.05:
        content_type = _changed(random, content_type.encode(), boundary).decode("latin-1").replace("\n", "")
    return content_type, body


def _part(random: Random, boundary: str, odd: bool) -> str:
    pick = random.choice if odd else lambda list_: random.choice(list_[:3])
    disposition = f"form-data; name={pick(FIELDS)}"
    if random.random() < 0.6:
        disposition += f"; filename={random.choice(FILENAMES) if random.random() < 0.25 else pick(FILENAMES)}"
    if random.random() < 0.15:
        disposition += f"; filename*={random.choice(EXTENDED)}"
    if random.random() < 0.05:
        disposition = disposition.replace("; ", random.choice([";", " ; ", ";  ", ", ", ";\t", " "]))
    lines = [f"{random.choice(['Content-Disposition', 'content-disposition'])}: {disposition}"]
    for _ in range(random.choice([0, 0, 1, 1, 2]) if odd else random.choice([0, 1])):
        lines.insert(random.randint(0, 1), pick(HEADERS))
    end = random.choice(LINE_ENDS) if odd and random.random() < 0.2 else "\r\n"
    content = "".join(random.choice(CONTENTS if odd else CONTENTS[:15]) for _ in range(random.choice([1, 1, 2, 3])))
    return "--{0}" + end + "\r\n".join(lines) + "\r\n" + end + content + end


def _changed(random: Random, data: bytes, boundary: str) -> bytes:
    """Return the data changed in one place."""
    at = random.randrange(len(data) + 1)
    length = random.choice([1, 1, 2, 4, 12])
    token = random.choice(TOKENS).replace("{0}", boundary).encode()
    how = random.randrange(6)
    if how == 0:
        return data[:at] + data[at + length :]
    if how == 1:
        return data[:at] + data[at : at + length] + data[at:]
    if how == 2:
        return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
    if how == 3:
        return data[:at] + data[at : at + length].swapcase() + data[at + length :]
    return data[:at] + token + data[at if how == 4 else at + len(token) :]
