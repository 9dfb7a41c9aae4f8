"""Signed requests: the vectors of RFC 9421, another implementation, and everything that makes a signature no good."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from resto_wsgi.errors import ConfigError, SignatureRejected
from resto_wsgi.trust.signatures import MAX_AGE, MAX_SKEW, Key, Message, accepted, parse_keys, sign, signed, verify

NOW = 1_793_701_230
KEY = Key("app-1", b"correct-horse-battery-staple-1234")
OTHER = Key("app-2", b"another-horse-battery-staple-9876")
URL = "http://media-01:8080/media/caf%C3%A9%20(1).jpg"
DIGEST = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
PUT = {"Content-Length": "19", "Repr-Digest": DIGEST, "Date": "Tue, 03 Nov 2026 10:20:30 GMT", "Resto-Generation": "7"}


def put(**changes: Any) -> dict[str, str]:
    """Return all headers of a signed PUT."""
    arguments = {"key": KEY, "created": NOW, "nonce": "n-1", **changes}
    return {**PUT, **sign("PUT", URL, PUT, **arguments)}


def check(headers: Mapping[str, str], method: str = "PUT", url: str = URL, now: float = NOW, keys: Any = (KEY,)) -> Any:
    return verify(Message.of_url(method, url, headers), keys, now)


def test_the_vector_of_the_rfc() -> None:
    """RFC 9421, appendix B.2.5: hmac-sha256 over Date, authority and Content-Type, to the octet."""
    secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    headers = {"Date": "Tue, 20 Apr 2021 02:07:55 GMT", "Content-Type": "application/json", "Content-Length": "18"}
    message = Message.of_url("POST", "https://example.com/foo?param=Value&Pet=dog", headers)
    parameters = ';created=1618884473;keyid="test-shared-secret"'
    key = Key("test-shared-secret", base64.b64decode(secret))
    assert signed(message, ["date", "@authority", "content-type"], parameters, key, "sig-b25") == {
        "Signature-Input": 'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
        "Signature": "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
    }


def test_what_is_signed_is_verified() -> None:
    """A PUT and a DELETE, by the key that the signature names."""
    verified = check(put(), keys=(OTHER, KEY))
    assert (verified.key_id, verified.created, len(verified.octets)) == ("app-1", NOW, 32)
    delete = sign("DELETE", URL, {}, key=OTHER, created=NOW, nonce="n")
    assert check(delete, "DELETE", keys=(OTHER, KEY)).key_id == "app-2"
    assert check(put(nonce="n-2")).octets != verified.octets


def test_another_implementation_agrees() -> None:
    """What we sign, http-message-signatures verifies, and the reverse."""
    theirs = (
        __import__("http_message_signatures") if "CI" in os.environ else pytest.importorskip("http_message_signatures")
    )

    class Keys(theirs.HTTPSignatureKeyResolver):  # type: ignore[name-defined, misc]
        def resolve_public_key(self, key_id: str) -> bytes:
            return KEY.secret

        resolve_private_key = resolve_public_key

    setup = {"signature_algorithm": theirs.algorithms.HMAC_SHA256, "key_resolver": Keys()}
    url = "http://media-01:8080/media/cat.jpg?after=x"
    headers = {**PUT, **sign("PUT", url, PUT, key=KEY, created=NOW, nonce="n-1")}
    request = SimpleNamespace(method="PUT", url=url, headers=headers)
    clock = {"max_age": __import__("datetime").timedelta(days=36500)}
    assert theirs.HTTPMessageVerifier(**setup).verify(request, **clock)

    request = SimpleNamespace(method="PUT", url=url, headers=dict(PUT))
    components = Message.of_url("PUT", url, PUT).sensitive()
    theirs.HTTPMessageSigner(**setup).sign(request, key_id="app-1", nonce="x", covered_component_ids=tuple(components))
    created = int(re.findall(r"created=(\d+)", request.headers["Signature-Input"])[0])
    assert check(request.headers, url=url, now=created).key_id == "app-1"


@pytest.mark.parametrize(
    ("same", "url"),
    [
        (True, "HTTP://MEDIA-01:8080/media/caf%c3%a9%20%281%29.jpg"),
        (False, "http://media-02:8080/media/caf%C3%A9%20(1).jpg"),
        (False, "http://media-01:8080/media/caf%C3%A9%20(2).jpg"),
        (False, "http://media-01:8080/media/caf%25C3%25A9%20(1).jpg"),
        (False, f"{URL}?x"),
    ],
)
def test_a_signature_is_for_one_url(same: bool, url: str) -> None:
    """However it is spelled; another host, path or query is another request."""
    if same:
        assert check(put(), url=url)
    else:
        with pytest.raises(SignatureRejected):
            check(put(), url=url)


def test_a_default_port_is_none() -> None:
    """RFC 9421, section 2.2.3."""
    headers = sign("DELETE", "https://media-01:443/x", {}, key=KEY, created=NOW, nonce="n")
    assert check(headers, "DELETE", "https://media-01/x")


@pytest.mark.parametrize(
    "change",
    [
        {"Content-Length": "20"},
        {"Repr-Digest": DIGEST.replace("RK", "Rk")},
        {"Date": "Tue, 03 Nov 2026 10:20:31 GMT"},
        {"Resto-Generation": "8"},
        {"If-Match": '"other"'},
        {"Content-Range": "bytes 0-1/2"},
        {"Resto-Whatever": "1"},
    ],
)
def test_what_is_changed_or_added_on_the_way_is_noticed(change: dict[str, str]) -> None:
    """Each header that a media server acts upon is covered, and must be."""
    with pytest.raises(SignatureRejected):
        check({**put(), **change})


def test_what_is_left_out_is_noticed() -> None:
    """A header that is covered has to be there."""
    for name in PUT:
        headers = put()
        del headers[name]
        with pytest.raises(SignatureRejected):
            check(headers)


def test_a_signature_that_covers_too_little_is_no_good() -> None:
    """Although it is right for what it covers."""
    message = Message.of_url("PUT", URL, PUT)
    everything = message.sensitive()
    parameters = f';created={NOW};keyid="app-1";nonce="n"'
    for left_out in everything:
        headers = signed(message, [each for each in everything if each != left_out], parameters, KEY)
        with pytest.raises(SignatureRejected, match=f"does not cover {left_out}"):
            check({**PUT, **headers})
    assert check({**PUT, **signed(message, everything, parameters, KEY)})


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW - MAX_SKEW, None),
        (NOW - MAX_SKEW - 1, "in the future"),
        (NOW + MAX_AGE, None),
        (NOW + MAX_AGE + 1, "expired"),
    ],
)
def test_a_signature_is_good_for_some_minutes(now: int, reason: str | None) -> None:
    """Clocks may differ, but not by more."""
    if reason is None:
        assert check(put(), now=now)
    else:
        with pytest.raises(SignatureRejected, match=reason):
            check(put(), now=now)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (f';keyid="app-1";nonce="n";created={NOW};expires={NOW - 1}', "expired"),
        (f';keyid="app-1";nonce="n";created={NOW};expires="soon"', "expired"),
        (';keyid="app-1";nonce="n"', "when it was created"),
        (';created="now";keyid="app-1";nonce="n"', "when it was created"),
        (f';created={NOW};keyid="app-1"', "no nonce"),
        (f';created={NOW};nonce="n"', "not by a key"),
        (f';created={NOW};keyid="app-3";nonce="n"', "not by a key"),
        (f';created={NOW};keyid="app-1";nonce="n";alg="rsa-v1_5-sha256"', "not by a key"),
    ],
)
def test_parameters_that_do_not_do(parameters: str, reason: str) -> None:
    """Each is said."""
    message = Message.of_url("DELETE", URL, {})
    with pytest.raises(SignatureRejected, match=reason):
        check(signed(message, message.sensitive(), parameters, KEY), "DELETE")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Signature-Input", None),
        ("Signature-Input", ""),
        ("Signature-Input", "x" * 100_000),
        ("Signature-Input", '("@method");keyid="app-1"'),
        ("Signature-Input", 'resto=("@method" "@method" "@authority" "@path");created=1;keyid="app-1"'),
        ("Signature-Input", 'resto=("@method";req "@authority" "@path");created=1;keyid="app-1"'),
        ("Signature-Input", "resto=" + "(" * 4000),
        ("Signature-Input", 'resto=("' + '" "' * 2000 + ");"),
        ("Signature-Input", 'resto=("@method");keyid="app-1" x'),
        ("Signature", None),
        ("Signature", "resto=::"),
        ("Signature", "resto=:AAA:"),
        ("Signature", "other=:AAAA:"),
        ("Signature", "resto=:" + "A" * 43 + "=:"),
        ("Signature", "resto=:\u0130:"),
    ],
)
def test_garbage_is_no_signature(name: str, value: str | None) -> None:
    """Nor does it take long to see, or end in another exception."""
    headers = sign("DELETE", URL, {}, key=KEY, created=NOW, nonce="n")
    headers = {**headers, name: value} if value is not None else {key: headers[key] for key in headers if key != name}
    with pytest.raises(SignatureRejected):
        check(headers, "DELETE")


def test_another_key_makes_another_signature() -> None:
    """The ID alone is worth nothing."""
    with pytest.raises(SignatureRejected, match="not that of this request"):
        check(put(key=Key("app-1", OTHER.secret)))


def test_ours_is_found_among_several_signatures() -> None:
    """A proxy may have added one of its own."""
    headers = put()
    more = {"Signature-Input": 'proxy=("@method");created=1;keyid="p"', "Signature": "proxy=:AAAA:"}
    both = {name: f"{more[name]}, {headers[name]}" for name in more}
    assert check({**headers, **both}).key_id == "app-1"


def test_what_cannot_be_signed_is_an_error() -> None:
    """A PUT without its digest, a line feed, and a nonce that ends its string."""
    with pytest.raises(ValueError, match="repr-digest, which is not there"):
        sign("PUT", URL, {"Content-Length": "1"}, key=KEY, created=NOW, nonce="n")
    with pytest.raises(ValueError, match="one line"):
        sign("DELETE", URL, {"Date": "x\ny"}, key=KEY, created=NOW, nonce="n")
    with pytest.raises(ValueError, match="a component's name"):
        signed(Message.of_url("DELETE", URL, {}), ["@Method"], "", KEY)
    with pytest.raises(ValueError, match="nonce"):
        sign("DELETE", URL, {}, key=KEY, created=NOW, nonce='n";x="')


def test_what_is_accepted_is_what_is_wanted() -> None:
    """A refused sender can read how to sign."""
    assert '"content-length" "repr-digest"' in accepted("PUT")
    assert "repr-digest" not in accepted("DELETE")


def test_keys_are_read_from_a_text() -> None:
    """Several, so that one can be replaced while senders still use it; comments are skipped."""
    text = f"# first the new one\napp-2:{'b' * 40}\n  app-1:{'a' * 30}:=+/\n"
    assert parse_keys(text, "the file") == (Key("app-2", b"b" * 40), Key("app-1", b"a" * 30 + b":=+/"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no key"),
        ("# nothing", "holds no key"),
        ("hunter2-hunter2-hunter2-hunter2-hunter2", "number 1 is not ID:SECRET"),
        (f"a:{'b' * 32} a b:{'hunter2' * 9}", "number 2 is not ID:SECRET"),
        (f"a b:{'hunter2' * 9}", "number 1 is not ID:SECRET"),
        (f"a:{'hunter2' * 9}\u00e9", "number 1 is not ID:SECRET"),
        ("a:hunter2", "number 1 is shorter than 32 characters"),
        (f"a:{'hunter2' * 9} a:{'hunter2' * 8}", "number 2 has the ID of another one"),
    ],
)
def test_keys_that_are_none_are_an_error_that_shows_no_secret(text: str, problem: str) -> None:
    """The entry is named by its number."""
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_keys(text, "SECRETS")
    assert str(caught.value).startswith("SECRETS: ")
    assert "hunter2" not in repr(caught.value) + str(caught.value)


def test_a_key_does_not_show_its_secret() -> None:
    """Neither in its repr nor in that of what holds it."""
    assert "horse" not in repr(KEY) + str([KEY]) + f"{KEY}"
