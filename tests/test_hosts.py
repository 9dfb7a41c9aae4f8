"""Hosts: what may be configured as a media server, and which URL a name has there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from resto_wsgi.errors import ConfigError
from resto_wsgi.hosts import Host, parse_hosts, public_url


def url_of(spec: str, media_url: str = "/media/") -> str:
    (host,) = parse_hosts([spec], media_url)
    return host.url


def problem(spec: object, media_url: str = "/media/") -> str:
    with pytest.raises(ConfigError) as caught:
        parse_hosts([spec], media_url)  # type: ignore[list-item]
    assert caught.value.setting == "media_hosts"
    return caught.value.problem


def test_a_name_hangs_below_the_url_of_its_host():
    """The name is percent-encoded, the base stands as it is."""
    assert Host("m", "http://m/media").url_of("a b/ü.jpg") == "http://m/media/a%20b/%C3%BC.jpg"
    assert Host("m", "https://m").url_of("cat.jpg") == "https://m/cat.jpg"


@pytest.mark.parametrize(
    ("media_url", "url"),
    [
        ("/media/", "http://media-01:8080/media"),
        ("/media", "http://media-01:8080/media"),
        ("/a/b/é/", "http://media-01:8080/a/b/%C3%A9"),
        ("/", "http://media-01:8080"),
        ("https://cdn.example/media/", "http://media-01:8080/media"),
        ("https://cdn.example", "http://media-01:8080"),
        ("//cdn.example/files/", "http://media-01:8080/files"),
    ],
)
def test_a_bare_host_takes_the_path_of_media_url(media_url, url):
    """The public URL names the path, the host only the server."""
    assert url_of("media-01:8080", media_url) == url


@pytest.mark.parametrize(
    ("spec", "url"),
    [
        ("https://media-02/", "https://media-02"),
        ("http://media-02", "http://media-02"),
        ("http://media-02:8080/deep/base/", "http://media-02:8080/deep/base"),
        ("HTTP://Media-02:80/Base//", "http://media-02/Base"),
        ("https://media-02:443", "https://media-02"),
        ("http://media-02:443", "http://media-02:443"),
        ("http://media-02/é%c3%a9%2f@:;", "http://media-02/%C3%A9%C3%A9%2F@:;"),
        ("http://my_service:80", "http://my_service"),
        ("http://media.example.", "http://media.example."),
    ],
)
def test_a_full_url_is_taken_as_it_is(spec, url):
    """Its own path counts, MEDIA_URL does not; only its spelling becomes normal."""
    assert url_of(spec) == url


@pytest.mark.parametrize(
    ("spec", "url"),
    [
        ("media-01", "http://media-01/media"),
        ("Media-01:080", "http://media-01/media"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/media"),
        ("[::1]:8080", "http://[::1]:8080/media"),
        ("[2001:DB8:0::1]", "http://[2001:db8::1]/media"),
    ],
)
def test_a_bare_host_may_be_an_address(spec, url):
    """IPv4 and IPv6 addresses are written in their one normal form."""
    assert url_of(spec) == url


def test_a_host_is_known_by_its_url_alone():
    """So one that was stored, where nobody knows its label, is found again; another path is another server."""
    configured = Host("media-01", "http://media-01/media")
    stored = Host.of("http://media-01/media")
    assert stored == configured and {stored: "owed"}[configured] == "owed"
    assert stored.label == stored.url
    assert Host("media-01", "http://media-01/other") != configured


def test_the_label_is_what_was_configured():
    """People find in a log what they wrote, without white space and trailing slash."""
    specs = [" Media-01:8080/ ", "https://media-02/base/", "media-03"]
    assert [host.label for host in parse_hosts(specs, "/media/")] == [
        "Media-01:8080",
        "https://media-02/base",
        "media-03",
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "'' is empty"),
        ("  ", "'  ' is empty"),
        (5, "'5' is not a string but int"),
        ("media 01", "'media 01' holds white space or a control character"),
        ("media\n01", "'media\\n01' holds white space or a control character"),
        ("media\u202e01", "'media\\u202e01' holds white space or a control character"),
        ("http://m/a\u00a0b", "'http://m/a\\xa0b' holds white space or a control character"),
        ("http://m\\@n", "number 1 holds a backslash"),
        ("ftp://m", "'ftp://m' has a scheme other than http and https"),
        ("://m", "'://m' has a scheme other than http and https"),
        ("http:/m", "'http:/m' has a path but no scheme; write it as a full URL, with http:// or https://"),
        ("m:80/base", "'m:80/base' has a path but no scheme; write it as a full URL, with http:// or https://"),
        ("//m", "'//m' has a path but no scheme; write it as a full URL, with http:// or https://"),
        ("http://", "'http://' names no host"),
        ("http://:80", "'http://:80' names no host"),
        (":80", "':80' names no host"),
        ("/", "'/' names no host"),
        ("m:", "'m:' has a port that is not a number from 1 to 65535"),
        ("m:0", "'m:0' has a port that is not a number from 1 to 65535"),
        ("m:65536", "'m:65536' has a port that is not a number from 1 to 65535"),
        ("m:+80", "'m:+80' has a port that is not a number from 1 to 65535"),
        ("m:٨٠", "'m:\\u0668\\u0660' has a port that is not a number from 1 to 65535"),
        ("8080", "'8080' has an IP address that is not valid"),
        ("10.0.0.256", "'10.0.0.256' has an IP address that is not valid"),
        ("[::g]", "'[::g]' has an IP address that is not valid"),
        (
            "[fe80::1%eth0]",
            "'[fe80::1%eth0]' has an IPv6 address with a zone, which means something on one machine only",
        ),
        ("::1:8080", "'::1:8080' is not HOST or HOST:PORT; an IPv6 address goes into brackets, as in [::1]:8080"),
        ("[::1", "'[::1' is not HOST or HOST:PORT; an IPv6 address goes into brackets, as in [::1]:8080"),
        ("m..n", "'m..n' has a host name that is not valid; one that is not ASCII is written in its xn-- form"),
        (
            "médiá",
            "'m\\xe9di\\xe1' has a host name that is not valid; one that is not ASCII is written in its xn-- form",
        ),
        ("http://m/a/../b", "'http://m/a/../b' has . or .. in its path"),
        ("http://m/%2e%2E/b", "'http://m/%2e%2E/b' has . or .. in its path"),
        ("http://m/..%2fb", "'http://m/..%2fb' has . or .. in its path"),
        ("http://m/100%", "'http://m/100%' has a % that begins no escape; write it as %25"),
    ],
)
def test_what_is_no_media_server_is_refused(spec, message):
    """The error shows what was found and says in one line what is wrong with it."""
    assert problem(spec) == message


def test_a_host_name_has_at_most_253_characters():
    """Longer ones cannot be in the DNS."""
    name = ".".join(["a" * 62] * 4)
    assert len(name) == 251
    assert url_of(name + ".a") == f"http://{name}.a/media"
    assert "host name that is not valid" in problem(name + ".aa")


@pytest.mark.parametrize(
    "spec",
    [
        "http://user:hunter2@media-01/",
        "user:hunter2@media-01:8080",
        "http://user:hunter2@media-01/?a",
        "http://user:hun/ter2@media-01/",
        "http://user:?hunter2@media-01/",
        "http://user:hunter2 @media-01/",
        "http://media-01/?key=hunter2",
        "http://media-01/#hunter2",
        "http://media-01/?key=a@hunter2",
    ],
)
def test_no_error_shows_what_could_be_a_secret(spec):
    """Users, passwords, queries and fragments are refused without being repeated."""
    message = problem(spec)
    assert "hunter2" not in message
    assert "ter2" not in message


def test_an_error_that_cannot_show_the_host_says_which_it_is():
    """Hosts are counted from 1."""
    with pytest.raises(ConfigError) as caught:
        parse_hosts(["media-01", "user:hunter2@media-02"], "/media/")
    assert str(caught.value) == (
        "media_hosts: number 2 holds a user or a password; those belong into the file of RESTO_CREDENTIALS_FILE"
    )


@pytest.mark.parametrize(
    "twin",
    ["media-01", "MEDIA-01:80", "http://media-01/media", "http://media-01:80/media/", "HTTP://media-01:080/media"],
)
def test_one_server_twice_is_refused(twin):
    """Two replicas on one server are one; counting them as two would make a lie of ``required``."""
    with pytest.raises(ConfigError) as caught:
        parse_hosts(["media-01/", twin], "/media/")
    assert caught.value.problem == f"'{twin.rstrip('/')}' is the same server as 'media-01'"


def test_servers_that_differ_in_port_scheme_or_path_are_several():
    """They may be one machine, but they hold several replicas."""
    specs = ["m", "m:8080", "https://m/media", "http://m/Media", "http://m/"]
    assert len({host.url for host in parse_hosts(specs, "/media/")}) == 5


def test_no_hosts_are_no_error():
    """A single server replicates to nobody."""
    assert parse_hosts([], "/media/") == ()


@pytest.mark.parametrize(
    ("media_url", "url"),
    [
        ("/media", "/media/"),
        ("/média/%e9/", "/m%C3%A9dia/%E9/"),
        ("/", "/"),
        ("/a:b//c", "/a:b//c/"),
        ("HTTPS://CDN.example:443/media", "https://cdn.example/media/"),
        ("https://cdn.example", "https://cdn.example/"),
        ("//CDN.example:443/media", "//cdn.example:443/media/"),
    ],
)
def test_the_public_url_is_encoded_and_ends_with_a_slash(media_url, url):
    """A quoted name can be appended to it as it is, and normalising it again changes nothing."""
    assert public_url(media_url) == url
    assert public_url(url) == url


@pytest.mark.parametrize(
    ("media_url", "message"),
    [
        ("media/", "'media/' is neither a path that begins with / nor an http:// or https:// URL"),
        ("", "'' is empty"),
        (None, "'None' is not a string but NoneType"),
        ("://cdn/", "'://cdn/' has a scheme other than http and https"),
        ("/a b/", "'/a b/' holds white space or a control character"),
        ("ftp://cdn/", "'ftp://cdn/' has a scheme other than http and https"),
        ("/media/?v=1", "'/media/' has a query or a fragment, below which no file can be"),
        ("/a/../b", "'/a/../b' has . or .. in its path"),
        ("///media/", "'///media/' names no host"),
        (
            "https://user:hunter2@cdn/",
            "it holds a user or a password; those belong into the file of RESTO_CREDENTIALS_FILE",
        ),
    ],
)
def test_a_public_url_below_which_no_file_can_be_is_refused(media_url, message):
    """The setting that is named is media_url, also where hosts are parsed."""
    with pytest.raises(ConfigError) as caught:
        public_url(media_url)
    assert (caught.value.setting, caught.value.problem) == ("media_url", message)
    with pytest.raises(ConfigError) as caught:
        parse_hosts(["media-01"], media_url)
    assert caught.value.setting == "media_url"


@given(st.text() | st.text("htps:/[]@.%2e?#-m0123456789 ", max_size=30).map("http://m".__add__) | st.text("m:/[].1@%2"))
def test_whatever_is_accepted_is_left_alone_by_the_client(spec):
    """urllib3 neither changes nor refuses the URL of any host that is accepted."""
    try:
        (host,) = parse_hosts([spec], "/media/")
    except ConfigError as error:
        assert str(error).isprintable()
        return
    url = parse_url(host.url_of("a/b.jpg"))
    assert url.url == host.url_of("a/b.jpg")
    assert (url.auth, url.query, url.fragment) == (None, None, None)
