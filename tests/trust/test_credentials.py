"""The lines of a file of credentials: which one counts for a host, and that no error shows a word of them."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resto_wsgi.errors import ConfigError
from resto_wsgi.hosts import parse_hosts
from resto_wsgi.trust.credentials import Credential, Credentials, parse_credentials

SECRET = "correct-horse-battery-staple-0123456789"
SOURCE = "'/etc/credentials'"


def of(text: str, host: str) -> Credential | None:
    return parse_credentials(text, SOURCE).of(parse_hosts([host], "/media/")[0].url)


def found(text: str, host: str) -> Credential:
    credential = of(text, host)
    assert credential is not None
    return credential


def refusal(text: str, host: str = "https://media-01/") -> str:
    with pytest.raises(ConfigError) as caught:
        of(text, host)
    assert caught.value.setting == "credentials_file"
    assert "\n" not in str(caught.value)
    return caught.value.problem


# What a line means


def test_basic_is_user_and_password_in_base64() -> None:
    """RFC 7617, in UTF-8; a password may hold a colon, a space and a number sign."""
    credential = found("https://media-01 basic tom: pass:wörd #1", "https://media-01/")
    assert (credential.kind, credential.line) == ("basic", 1)
    scheme, _, value = credential.authorization.partition(" ")
    assert (scheme, base64.b64decode(value).decode()) == ("Basic", "tom: pass:wörd #1")


def test_bearer_is_the_token_as_it_is() -> None:
    """RFC 6750."""
    assert found("* bearer a-B.c_9~+/==", "https://media-01/").authorization == "Bearer a-B.c_9~+/=="


def test_secret_is_a_key_and_no_header() -> None:
    """It signs, so it is never sent, and http:// may be used."""
    credential = found(f"* secret app-1:{SECRET}", "http://media-01/")
    assert credential.key is not None
    assert (credential.key.id, credential.key.secret, credential.authorization) == ("app-1", SECRET.encode(), "")


def test_comments_blank_lines_and_line_ends_do_not_count() -> None:
    """Lines are numbered as an editor does."""
    text = "\n# * bearer one\r\n  \t\r\n \tmedia-01 \t bearer  two \t\r\n"
    credential = found(text, "https://media-01/")
    assert (credential.authorization, credential.line) == ("Bearer two", 4)


def test_no_repr_shows_a_secret() -> None:
    """A record in a traceback, for instance."""
    text = f"media-01 basic tom:{SECRET}\nmedia-01 bearer {SECRET}\nmedia-01 secret id:{SECRET}"
    credentials = parse_credentials(text, SOURCE)
    texts = [repr(credentials), repr(vars(credentials))]
    for line in text.splitlines():
        credential = found(line, "https://media-01/")
        texts += [repr(credential), str(credential), repr(credential.key)]
    for each in texts:
        assert SECRET not in each and base64.b64encode(f"tom:{SECRET}".encode()).decode() not in each


# Which one counts

LINES = """\
*                         bearer   any
media-01                  bearer   host
media-01:8080             bearer   port
https://media-01          bearer   scheme
https://media-01/files    bearer   path
[::1]:8080                bearer   six
"""


@pytest.mark.parametrize(
    ("host", "token"),
    [
        ("https://media-02", "any"),
        ("https://media-01", "scheme"),
        ("https://MEDIA-01:443/", "scheme"),
        ("https://media-01/files/", "path"),
        ("https://media-01/files/more", "path"),
        ("https://media-01/files2", "scheme"),
        ("https://media-01:8080", "port"),
        ("https://media-01:8081", "any"),
        ("http://[0::1]:8080", "six"),
    ],
)
def test_the_most_specific_line_counts(host: str, token: str) -> None:
    """Wherever it stands."""
    lines = LINES.splitlines()
    for text in (lines, lines[::-1]):
        assert found("\n".join(text), host).authorization == f"Bearer {token}"


def test_of_two_lines_for_one_host_the_last_counts() -> None:
    """So that a new key is added at the end."""
    assert found("media-01 bearer old\nMEDIA-01 bearer new", "https://media-01").authorization == "Bearer new"
    assert found("media-01 bearer old\n* bearer new", "https://media-01").authorization == "Bearer old"


def test_a_port_that_is_written_is_that_port() -> None:
    """Not whatever the scheme has by default."""
    assert of("media-01:80 bearer x", "https://media-01") is None
    assert found("media-01:443 bearer x", "https://media-01").authorization == "Bearer x"
    assert of(f"media-01:443 secret id:{SECRET}", "http://media-01") is None
    assert found(f"media-01:80 secret id:{SECRET}", "media-01").key


def test_a_host_that_no_line_names_is_shown_nothing() -> None:
    """Not even one whose name is longer, or is below it."""
    for host in ("https://media-010", "https://x.media-01", "https://media-01.evil.test", "https://media-02"):
        assert of("media-01 bearer x", host) is None
    assert Credentials().of("https://media-01") is None


# In the clear


@pytest.mark.parametrize("line", ["basic tom:pw", "bearer pw"])
def test_what_could_be_read_on_the_way_is_refused(line: str) -> None:
    """Unless the line says that it is meant."""
    kind, value = line.split()
    problem = refusal(f"#\n* {line}", "http://media-01:8080")
    assert problem == (
        f"line 2 of {SOURCE} would show it to everybody on the way to http://media-01:8080; "
        f"use https://, or secret, or say {kind}-over-http"
    )
    assert found(f"* {kind}-over-http {value}", "http://media-01:8080").kind == kind
    assert found(f"* {kind}-over-http {value}", "https://media-01").kind == kind


@pytest.mark.parametrize("host", ["http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]", "localhost:8080"])
def test_on_this_machine_nobody_is_on_the_way(host: str) -> None:
    """Loopback needs no words."""
    assert found("* bearer x", host).authorization == "Bearer x"


@pytest.mark.parametrize("host", ["http://localhost.test", "http://10.0.0.1", "http://127.example"])
def test_what_only_looks_like_this_machine_is_not(host: str) -> None:
    """A name that merely begins like it."""
    assert "everybody" in refusal("* bearer x", host)


# Mistakes


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (SECRET, "is not HOST KIND VALUE, such as: media-01:8443 basic user:password"),
        (f"media-01 {SECRET}", "is not HOST KIND VALUE, such as: media-01:8443 basic user:password"),
        (
            f"media-01 tom:{SECRET} basic",
            "has a KIND that is none of basic, bearer, secret, basic-over-http, bearer-over-http",
        ),
        (
            f"media-01 secret-over-http id:{SECRET}",
            "has a KIND that is none of basic, bearer, secret, basic-over-http, bearer-over-http",
        ),
        (f"media-01 BASIC tom:{SECRET}", "has a KIND that is none of basic, bearer, secret, basic-over-http, "),
        (f"tom:{SECRET} basic media-01", "has a HOST that is neither * nor written as in media_hosts"),
        (f"https://tom:{SECRET}@media-01 basic x:y", "has a HOST that is neither * nor written as in media_hosts"),
        (f"media-01/{SECRET} basic x:y", "has a HOST that is neither * nor written as in media_hosts"),
        (f"media-01 basic {SECRET}", "has a VALUE that is not user:password"),
        (f"media-01 basic :{SECRET}", "has a VALUE that is not user:password"),
        (f"media-01 basic tom:\x00{SECRET}", "has a VALUE that is not user:password"),
        (f"media-01 bearer {SECRET} x", "has a VALUE that is no bearer token: letters, digits and -._~+/, with = at"),
        (f"media-01 bearer =é{SECRET}", "has a VALUE that is no bearer token"),
        (f"media-01 secret {SECRET}", "has a VALUE that is not ID:SECRET: its key number 1 is not ID:SECRET"),
        (
            f"media-01 secret id:{SECRET[:31]}",
            "has a VALUE that is not ID:SECRET: the secret of its key number 1",
        ),
        (f"media-01 secret id:{SECRET} new:{SECRET}", "has more than one ID:SECRET; a sender signs with one"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_nothing_of_it(line: str, problem: str) -> None:
    """Words may be in the wrong order, so none of them is repeated."""
    told = refusal(f"# first\n{line}")
    assert told.startswith(f"line 2 of {SOURCE} {problem}")
    assert "horse" not in told and "tom" not in told


@pytest.mark.parametrize("text", ["", "\n", "# media-01 basic tom:pw\n"])
def test_a_file_without_credentials_is_refused(text: str) -> None:
    """Somebody meant to write some."""
    assert refusal(text) == f"{SOURCE} holds no line HOST KIND VALUE"


words = st.text("abcXYZ019-_.~+/=:*@[]# \tü\x00\x85\u2028", max_size=12)
kinds = st.sampled_from(["basic", "bearer", "secret", "basic-over-http", "bearer-over-http", "nothing"])
lines = st.builds(lambda host, kind, value: f"{host} {kind} {value}", words | st.just("media-01"), kinds, words)


@given(st.text() | st.lists(lines | words).map("\n".join))
@example("media-01 basic \x85:x")
@example("[::1 basic x:y")
def test_any_text_is_understood_or_refused_in_one_line(text: str) -> None:
    """And what is understood can be sent as it is."""
    try:
        credential = of(text, "https://media-01")
    except ConfigError as error:
        assert str(error).isprintable()
        return
    if credential is not None and credential.key is None:
        assert re.fullmatch(r"(Basic|Bearer) [!-~]+", credential.authorization)


safe = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters=" \t"), min_size=1)


@given(safe.map(lambda user: user.replace(":", "_")), safe, st.integers(0, 5))
def test_a_user_and_password_make_a_round_trip(user: str, password: str, before: int) -> None:
    """Whatever they are made of, but control characters."""
    text = "#\n" * before + f"media-01:8443   basic {user}:{password}  \n"
    credential = found(text, "https://media-01:8443/")
    assert base64.b64decode(credential.authorization.split()[1]).decode() == f"{user}:{password}"
    assert credential.line == before + 1


@given(st.lists(st.sampled_from(["*", "media-01", "media-02", "https://media-01", "https://media-01/a"]), min_size=1))
def test_the_line_that_counts_is_the_last_of_the_most_specific(hosts: list[str]) -> None:
    """Held against a rule that is as plain as can be."""
    text = "\n".join(f"{host} bearer t{number}" for number, host in enumerate(hosts))
    fitting = [host for host in ("https://media-01/a", "https://media-01", "media-01", "*") if host in hosts]
    credential = of(text, "https://media-01/a/b")
    if not fitting:
        assert credential is None
    else:
        last = len(hosts) - 1 - hosts[::-1].index(fitting[0])
        assert credential is not None and credential.authorization == f"Bearer t{last}"
