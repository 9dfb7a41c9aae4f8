"""Settings: each value is checked once, and every source tells of a mistake in its own words."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from django.conf import LazySettings
from flask import Config

from resto_wsgi.config import Settings, UploadSettings, settings_table
from resto_wsgi.errors import ConfigError
from resto_wsgi.hosts import Host

FILES = ("ca_bundle", "client_cert", "client_key", "credentials_file")
THREE = ("media-01:8080", "media-02:8080", "https://media-03/")


def settings(**keywords) -> Settings:
    return Settings.from_keywords(**{"media_root": "/srv/media", **keywords})


def refusal(call, *arguments, **keywords) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Values


def test_defaults():
    """A media root is all that must be said."""
    assert dataclasses.asdict(settings()) == {
        "media_root": "/srv/media",
        "media_url": "/media/",
        "media_hosts": (),
        "mode": "hybrid",
        "fatal_exceptions": True,
        "required": "all",
        "show_traceback": False,
        "timeout": 2.0,
        "outbox": None,
        "linked_folders": (),
        "file_mode": 0o644,
        "folder_mode": 0o755,
        "fsync": True,
        "tombstone_days": 90.0,
        "background": True,
        "ca_bundle": None,
        "client_cert": None,
        "client_key": None,
        "credentials_file": None,
        "_hosts": (),
        **dataclasses.asdict(UploadSettings()),
    }


def test_settings_are_frozen_comparable_and_keyword_only():
    """They can be shared between threads and used as a key."""
    assert settings() == settings(media_url="/media")
    assert hash(settings()) == hash(settings())
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().timeout = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings("/srv/media")  # type: ignore[call-arg,misc]


def test_a_copy_with_changes_is_checked_too():
    """``dataclasses.replace`` parses the hosts again."""
    changed = dataclasses.replace(settings(), media_hosts=("media-09",))
    assert changed.hosts == (Host("media-09", "http://media-09/media"),)
    assert refusal(dataclasses.replace, settings(), timeout=0).startswith("timeout: ")


def test_hosts_are_parsed_once_and_hang_below_media_url():
    """The same tuple is returned each time."""
    some = settings(media_hosts=list(THREE), media_url="https://cdn.example/files")
    assert some.media_url == "https://cdn.example/files/"
    assert some.media_hosts == THREE
    assert [host.url for host in some.hosts] == [
        "http://media-01:8080/files",
        "http://media-02:8080/files",
        "https://media-03",
    ]
    assert some.hosts is some.hosts


def test_the_hosts_appear_once_in_the_text_of_settings():
    """What is derived is left out."""
    assert repr(settings(media_hosts=["media-01"])).count("media-01") == 1


def test_paths_may_be_path_objects():
    """``pathlib`` is at home in settings files; what is kept is a string."""
    some = settings(media_root=pathlib.Path("/srv/media"), outbox=pathlib.PurePosixPath("/var/lib/o.sqlite3"))
    assert (some.media_root, some.outbox) == ("/srv/media", "/var/lib/o.sqlite3")


@pytest.mark.parametrize(
    ("required", "count", "hosts"),
    [
        ("all", 0, 0),
        ("majority", 0, 0),
        ("all", 3, 3),
        ("majority", 1, 1),
        ("majority", 2, 2),
        ("majority", 3, 2),
        ("majority", 4, 3),
        (1, 3, 1),
        (3, 3, 3),
        ("2", 3, 2),
    ],
)
def test_required_hosts_counts(required, count, hosts):
    """A majority is more than half, and nothing is required of no host."""
    some = settings(required=required, media_hosts=[f"media-{number:02}" for number in range(count)])
    assert some.required_hosts == hosts


def test_required_is_kept_as_a_number_where_it_is_one():
    """Text and number are one setting."""
    assert settings(required="2", media_hosts=THREE) == settings(required=2, media_hosts=THREE)


@pytest.mark.parametrize("mode", ["hybrid", "async", "distributed"])
def test_modes(mode):
    """All words of the design are taken."""
    assert settings(mode=mode).mode == mode


@pytest.mark.parametrize("timeout", [3600, 0.001, 1])
def test_a_timeout_is_kept_as_seconds(timeout):
    """A whole number will do."""
    assert settings(timeout=timeout).timeout == timeout
    assert isinstance(settings(timeout=timeout).timeout, float)


@pytest.mark.parametrize(
    ("keyword", "value", "line"),
    [
        (
            "media_root",
            "media",
            "takes an absolute path, such as /srv/media, not 'media' (str): another process starts elsewhere",
        ),
        (
            "media_root",
            "~/media",
            "takes an absolute path, such as /srv/media, not '~/media' (str): another process starts elsewhere",
        ),
        ("media_root", "", "takes an absolute path, such as /srv/media, not '' (str)"),
        ("media_root", None, "takes an absolute path, such as /srv/media, not 'None' (NoneType)"),
        ("media_root", b"/srv", "takes an absolute path, such as /srv/media, not \"b'/srv'\" (bytes)"),
        (
            "media_root",
            "/a\0",
            "takes an absolute path, such as /srv/media, not '/a\\x00' (str): another process starts elsewhere",
        ),
        (
            "media_root",
            pathlib.PurePosixPath("a"),
            "takes an absolute path, such as /srv/media, not 'a' (PurePosixPath): another process starts elsewhere",
        ),
        ("media_url", "media/", "'media/' is neither a path that begins with / nor an http:// or https:// URL"),
        ("media_url", 5, "'5' is not a string but int"),
        ("media_hosts", "u:hunter2@m", "takes a list of strings such as 'media-01:8080', not str"),
        ("media_hosts", b"m", "takes a list of strings such as 'media-01:8080', not bytes"),
        ("media_hosts", {"m": 1}, "takes a list of strings such as 'media-01:8080', not dict"),
        ("media_hosts", None, "takes a list of strings such as 'media-01:8080', not NoneType"),
        ("media_hosts", [5], "'5' is not a string but int"),
        ("media_hosts", ["m", "M:80"], "'M:80' is the same server as 'm'"),
        ("mode", "fast", "takes hybrid, async or distributed, not 'fast' (str)"),
        ("mode", True, "takes hybrid, async or distributed, not 'True' (bool)"),
        ("fatal_exceptions", 1, "takes True or False, not '1' (int)"),
        ("fatal_exceptions", "false", "takes True or False, not 'false' (str)"),
        ("show_traceback", None, "takes True or False, not 'None' (NoneType)"),
        ("fsync", "yes", "takes True or False, not 'yes' (str)"),
        ("required", "some", "takes all, majority, or a number of media servers from 1 on, not 'some' (str)"),
        ("required", 0, "takes all, majority, or a number of media servers from 1 on, not '0' (int)"),
        ("required", "0", "takes all, majority, or a number of media servers from 1 on, not '0' (int)"),
        ("required", "-1", "takes all, majority, or a number of media servers from 1 on, not '-1' (str)"),
        ("required", True, "takes all, majority, or a number of media servers from 1 on, not 'True' (bool)"),
        ("required", 1.0, "takes all, majority, or a number of media servers from 1 on, not '1.0' (float)"),
        ("required", 1, "takes at most 0, the number of media servers, not 1"),
        ("timeout", 0, "takes seconds, above 0 and at most 3600, not '0' (int)"),
        ("timeout", -1.5, "takes seconds, above 0 and at most 3600, not '-1.5' (float)"),
        ("timeout", 3600.5, "takes seconds, above 0 and at most 3600, not '3600.5' (float)"),
        ("timeout", float("nan"), "takes seconds, above 0 and at most 3600, not 'nan' (float)"),
        ("timeout", float("inf"), "takes seconds, above 0 and at most 3600, not 'inf' (float)"),
        ("timeout", True, "takes seconds, above 0 and at most 3600, not 'True' (bool)"),
        ("timeout", "2", "takes seconds, above 0 and at most 3600, not '2' (str)"),
        ("timeout", None, "takes seconds, above 0 and at most 3600, not 'None' (NoneType)"),
        (
            "outbox",
            "outbox.sqlite3",
            "takes an absolute path, such as /srv/media, not 'outbox.sqlite3' (str): another process starts elsewhere",
        ),
        ("outbox", False, "takes an absolute path, such as /srv/media, not 'False' (bool)"),
        ("linked_folders", "up", "takes a list of folders below media_root, such as ['uploads'], not 'up' (str)"),
        ("linked_folders", 1, "takes a list of folders below media_root, such as ['uploads'], not '1' (int)"),
        ("linked_folders", [1], "takes folders below media_root, and '1' is not a string"),
        ("linked_folders", ["../x"], "takes folders below media_root, and '../x' has a part that is . or .."),
        ("linked_folders", ["/"], "takes folders below media_root, and '' is empty"),
    ],
)
def test_an_ill_typed_value_is_refused(keyword, value, line):
    """The error names the setting, the values that it takes and what was found."""
    assert refusal(settings, **{keyword: value}) == f"{keyword}: {line}"
    assert refusal(Settings, **{"media_root": "/srv/media", keyword: value}) == f"{keyword}: {line}"


def test_more_hosts_required_than_there_are_is_refused():
    """No save could ever return."""
    line = "required: takes at most 3, the number of media servers, not 4"
    assert refusal(settings, required="4", media_hosts=THREE) == line


def test_a_key_without_its_certificate_is_refused():
    """It would be used for nothing."""
    line = refusal(Settings.from_environ, {"MEDIA_ROOT": "/srv/media", "RESTO_CLIENT_KEY": "/etc/key.pem"})
    assert line == "RESTO_CLIENT_KEY: is the key of client_cert, which is not given"


# Sources


def test_an_unknown_keyword_is_refused_with_the_closest_that_is_known():
    """A typing error must not become a default."""
    assert refusal(settings, media_host=["m"]) == "media_host: is not a setting; did you mean media_hosts?"
    assert refusal(settings, RESTO_TIMEOUT=2) == "RESTO_TIMEOUT: is not a setting; did you mean timeout?"
    assert refusal(settings, _hosts=()) == "_hosts: is not a setting; did you mean media_hosts?"


def test_an_unknown_keyword_that_is_close_to_none_is_refused_with_all():
    """The error says what there is."""
    assert refusal(settings, xyzzy=1) == (
        "xyzzy: is not a setting; the settings are media_root, media_url, media_hosts, mode, fatal_exceptions, "
        "required, show_traceback, timeout, outbox, linked_folders, file_mode, folder_mode, fsync, tombstone_days, "
        "background, ca_bundle, client_cert, client_key, credentials_file, paths, publish, handoff, fields, upload_to, "
        "naming, allowed_types, allowed_extensions, max_file_size, max_total_size, max_files, max_fields, "
        "max_field_size, max_form_size, max_header_size, max_header_count, max_seconds"
    )


def test_an_unknown_name_with_control_characters_forges_no_line():
    """It is shown quoted."""
    assert refusal(settings, **{"a\nb": 1}).startswith("'a\\nb': is not a setting")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Settings.from_keywords(), "media_root"),
        (lambda: Settings.from_environ({}), "MEDIA_ROOT"),
        (lambda: Settings.from_mapping({}), "MEDIA_ROOT"),
        (lambda: Settings.from_mapping(object()), "MEDIA_ROOT"),
        (lambda: Settings.from_ini({}), "media_root"),
    ],
)
def test_the_media_root_is_required(call, name):
    """It is asked for in the words of the source."""
    assert refusal(call) == f"{name}: is required: give the absolute path of the folder of the master"


ENVIRON = {
    "PATH": "/bin",
    "MEDIA_ROOT": " /srv/media\n",
    "MEDIA_URL": "/files",
    "MEDIA_OTHER": "is not ours",
    "RESTO_MEDIA_HOSTS": "media-01:8080, media-02:8080\n\thttps://media-03/,",
    "RESTO_MODE": "Async",
    "RESTO_FATAL_EXCEPTIONS": "no",
    "RESTO_REQUIRED": " 2 ",
    "RESTO_SHOW_TRACEBACK": "On",
    "RESTO_TIMEOUT": "0.5",
    "RESTO_OUTBOX": "/var/lib/outbox.sqlite3",
    "RESTO_LINKED_FOLDERS": "uploads/, a b/c , uploads,",
    "RESTO_FSYNC": "0",
    "RESTO_CA_BUNDLE": "/etc/ca.pem",
    "RESTO_CLIENT_CERT": "/etc/cert.pem",
    "RESTO_CLIENT_KEY": "/etc/key.pem",
    "RESTO_CREDENTIALS_FILE": "/etc/credentials",
}
PARSED = Settings(
    media_root="/srv/media",
    media_url="/files/",
    media_hosts=THREE,
    mode="async",
    fatal_exceptions=False,
    required=2,
    show_traceback=True,
    timeout=0.5,
    outbox="/var/lib/outbox.sqlite3",
    linked_folders=("a b/c", "uploads"),
    fsync=False,
    ca_bundle="/etc/ca.pem",
    client_cert="/etc/cert.pem",
    client_key="/etc/key.pem",
    credentials_file="/etc/credentials",
)
TYPED = {
    "SECRET_KEY": "is not ours",
    "MEDIA_ROOT": pathlib.Path("/srv/media"),
    "MEDIA_URL": "/files/",
    "RESTO_MEDIA_HOSTS": list(THREE),
    "RESTO_MODE": "async",
    "RESTO_FATAL_EXCEPTIONS": False,
    "RESTO_REQUIRED": 2,
    "RESTO_SHOW_TRACEBACK": True,
    "RESTO_TIMEOUT": 0.5,
    "RESTO_OUTBOX": "/var/lib/outbox.sqlite3",
    "RESTO_LINKED_FOLDERS": ["uploads", "a b/c"],
    "RESTO_FSYNC": False,
    "RESTO_CA_BUNDLE": pathlib.Path("/etc/ca.pem"),
    "RESTO_CLIENT_CERT": "/etc/cert.pem",
    "RESTO_CLIENT_KEY": "/etc/key.pem",
    "RESTO_CREDENTIALS_FILE": "/etc/credentials",
}


def test_every_setting_comes_from_the_environment():
    """Text is parsed, and other variables are not looked at."""
    assert Settings.from_environ(ENVIRON) == PARSED


@pytest.mark.parametrize("values", [ENVIRON, TYPED])
def test_every_setting_comes_from_the_config_of_flask(values):
    """Typed values and text both do."""
    assert Settings.from_mapping(Config("/", values)) == PARSED


@pytest.mark.parametrize("values", [ENVIRON, TYPED])
def test_every_setting_comes_from_the_settings_of_django(values):
    """Typed values and text both do, and Django's own settings are not looked at."""
    django = LazySettings()
    django.configure(**values)
    assert Settings.from_mapping(django) == PARSED


def test_django_without_a_media_root_is_told_so():
    """Its own default is an empty string."""
    django = LazySettings()
    django.configure()
    assert refusal(Settings.from_mapping, django) == (
        "MEDIA_ROOT: takes an absolute path, such as /srv/media, not '' (str)"
    )


def test_every_setting_comes_from_an_ini_section_in_either_spelling():
    """PasteDeploy's sections may use keywords or the names of the environment."""
    outer = {name: value for name, value in ENVIRON.items() if name not in ("PATH", "MEDIA_OTHER")}
    keywords = {name: keyword for keyword, name, _, _ in settings_table()}
    assert Settings.from_ini(outer) == PARSED
    assert Settings.from_ini({keywords[name]: value for name, value in outer.items()}) == PARSED


def test_one_setting_in_both_spellings_is_refused():
    """Nobody could tell which one counts."""
    section = {"MEDIA_ROOT": "/a", "media_root": "/b"}
    assert refusal(Settings.from_ini, section) == "media_root: is the same setting as MEDIA_ROOT; give it once"


SOURCES = [Settings.from_environ, Settings.from_mapping, Settings.from_ini]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("RESTO_MEDIA_HOST", "m", "is not a setting; did you mean RESTO_MEDIA_HOSTS?"),
        ("RESTO_TIMOUT", "2", "is not a setting; did you mean RESTO_TIMEOUT?"),
        ("RESTO_TIMEOUT", "2 s", "takes seconds, above 0 and at most 3600, not '2 s' (str)"),
        ("RESTO_TIMEOUT", "nan", "takes seconds, above 0 and at most 3600, not 'nan' (float)"),
        ("RESTO_TIMEOUT", "", "takes seconds, above 0 and at most 3600, not '' (str)"),
        ("RESTO_FSYNC", "maybe", "takes true or false (or yes or no, on or off, 1 or 0), not 'maybe' (str)"),
        ("RESTO_FSYNC", "", "takes true or false (or yes or no, on or off, 1 or 0), not '' (str)"),
        ("RESTO_REQUIRED", "most", "takes all, majority, or a number of media servers from 1 on, not 'most' (str)"),
        ("RESTO_REQUIRED", "4", "takes at most 0, the number of media servers, not 4"),
        ("RESTO_MODE", "", "takes hybrid, async or distributed, not '' (str)"),
        ("RESTO_LINKED_FOLDERS", "a, .b", "takes folders below media_root, and '.b' has a part that begins with a dot"),
        (
            "RESTO_OUTBOX",
            "o.db",
            "takes an absolute path, such as /srv/media, not 'o.db' (str): another process starts elsewhere",
        ),
        ("RESTO_MEDIA_HOSTS", "m ftp://n", "'ftp://n' has a scheme other than http and https"),
        ("MEDIA_URL", "media", "'media' is neither a path that begins with / nor an http:// or https:// URL"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_its_source(source, name, text, line):
    """The setting is named as it was written there."""
    assert refusal(source, {"MEDIA_ROOT": "/srv/media", name: text}) == f"{name}: {line}"


def test_an_ini_section_is_told_its_own_spelling():
    """The keyword is named where the keyword was written, and every name in the section is ours."""
    section = {"media_root": "/srv/media"}
    assert refusal(Settings.from_ini, {**section, "fsync": "2"}).startswith("fsync: takes true or false")
    assert refusal(Settings.from_ini, {**section, "timeout": "0"}).startswith("timeout: takes seconds")
    assert refusal(Settings.from_ini, {**section, "timeot": "1"}) == "timeot: is not a setting; did you mean timeout?"
    assert refusal(Settings.from_ini, {**section, "MEDIA_ROT": "1"}).endswith("did you mean MEDIA_ROOT?")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("true", "True", "YES", "on", "1", " yes ")),
        *((text, False) for text in ("false", "False", "NO", "off", "0", " no ")),
    ],
)
def test_words_for_true_and_false(text, value):
    """Case and white space around them do not matter."""
    assert Settings.from_environ({"MEDIA_ROOT": "/srv/media", "RESTO_FSYNC": text}).fsync is value


def test_no_hosts_in_text_are_no_hosts():
    """An empty variable is an empty list."""
    assert Settings.from_environ({"MEDIA_ROOT": "/srv/media", "RESTO_MEDIA_HOSTS": " "}).hosts == ()


def test_the_environment_keeps_a_password_to_itself():
    """It is in no error, whichever source it came from."""
    for source in SOURCES:
        line = refusal(source, {"MEDIA_ROOT": "/srv/media", "RESTO_MEDIA_HOSTS": "user:hunter2@media-01"})
        assert line.startswith("RESTO_MEDIA_HOSTS: number 1 holds a user or a password")
        assert "hunter2" not in line


# The table


def test_the_table_lists_each_setting_once():
    """The documentation is made from it."""
    table = settings_table()
    assert [(keyword, name, default) for keyword, name, default, _ in table] == [
        ("media_root", "MEDIA_ROOT", "required"),
        ("media_url", "MEDIA_URL", "/media/"),
        ("media_hosts", "RESTO_MEDIA_HOSTS", "none"),
        ("mode", "RESTO_MODE", "hybrid"),
        ("fatal_exceptions", "RESTO_FATAL_EXCEPTIONS", "True"),
        ("required", "RESTO_REQUIRED", "all"),
        ("show_traceback", "RESTO_SHOW_TRACEBACK", "False"),
        ("timeout", "RESTO_TIMEOUT", "2"),
        ("outbox", "RESTO_OUTBOX", "MEDIA_ROOT/.resto/outbox.sqlite3"),
        ("linked_folders", "RESTO_LINKED_FOLDERS", "none"),
        ("file_mode", "RESTO_FILE_MODE", "0644"),
        ("folder_mode", "RESTO_FOLDER_MODE", "0755"),
        ("fsync", "RESTO_FSYNC", "True"),
        ("tombstone_days", "RESTO_TOMBSTONE_DAYS", "90"),
        ("background", "RESTO_BACKGROUND", "True"),
        ("ca_bundle", "RESTO_CA_BUNDLE", "the system's"),
        ("client_cert", "RESTO_CLIENT_CERT", "none"),
        ("client_key", "RESTO_CLIENT_KEY", "client_cert"),
        ("credentials_file", "RESTO_CREDENTIALS_FILE", "none"),
        ("paths", "RESTO_PATHS", "all"),
        ("publish", "RESTO_PUBLISH", "on_success"),
        ("handoff", "RESTO_HANDOFF", "original"),
        ("fields", "RESTO_FIELDS", "none"),
        ("upload_to", "RESTO_UPLOAD_TO", "uploads/%Y/%m"),
        ("naming", "RESTO_NAMING", "original"),
        ("allowed_types", "RESTO_ALLOWED_TYPES", "all"),
        ("allowed_extensions", "RESTO_ALLOWED_EXTENSIONS", "all"),
        ("max_file_size", "RESTO_MAX_FILE_SIZE", "1073741824"),
        ("max_total_size", "RESTO_MAX_TOTAL_SIZE", "2147483648"),
        ("max_files", "RESTO_MAX_FILES", "100"),
        ("max_fields", "RESTO_MAX_FIELDS", "1000"),
        ("max_field_size", "RESTO_MAX_FIELD_SIZE", "1048576"),
        ("max_form_size", "RESTO_MAX_FORM_SIZE", "4194304"),
        ("max_header_size", "RESTO_MAX_HEADER_SIZE", "4096"),
        ("max_header_count", "RESTO_MAX_HEADER_COUNT", "8"),
        ("max_seconds", "RESTO_MAX_SECONDS", "3600.0"),
    ]
    assert all(meaning.endswith(".") for *_, meaning in table)


def test_the_defaults_in_the_table_are_the_defaults():
    """A default that is text reads back as the default itself."""
    none = ("media_root", "outbox", "media_hosts", "linked_folders", *FILES)
    none += ("paths", "fields", "allowed_types", "allowed_extensions")
    texts = {name: default for keyword, name, default, _ in settings_table() if keyword not in none}
    assert Settings.from_environ({"MEDIA_ROOT": "/srv/media", **texts}) == settings(publish="on_success")
