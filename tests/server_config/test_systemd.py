"""Units of systemd as they are printed, and as systemd itself reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hostile import WORDS, made_folder
from hypothesis import HealthCheck, example, given, settings
from printed import ENVIRON, open_folder, printed

from resto_wsgi.errors import ConfigError
from resto_wsgi.server_config import Site, systemd

ROOT = {"MEDIA_ROOT": "/srv/media"}


def sections(text: str) -> dict[str, str]:
    """The files of an output, by their names."""
    parts = text.split("# ==== ")[1:]
    return {part.partition(" ====\n")[0]: part.partition(" ====\n")[2] for part in parts}


def test_the_units_have_the_settings_of_the_application(tmp_path: Path) -> None:
    """All that are set, quoted; what may be written is the media root and the folder of the outbox."""
    settings = {"RESTO_MEDIA_HOSTS": "a:80 b:80", "RESTO_OUTBOX": "/var/lib/100% mine/outbox", "RESTO_MODE": "async"}
    units = sections(printed("systemd", "--command", "/opt/resto", "--user", "app", **settings, **ROOT))
    assert list(units) == ["resto-drain.service", "resto-drain.timer", "resto-media-server.service"]
    drain = units["resto-drain.service"].splitlines()
    assert 'Environment="RESTO_MEDIA_HOSTS=a:80 b:80"' in drain and 'Environment="MEDIA_ROOT=/srv/media"' in drain
    assert 'ReadWritePaths="/srv/media" "/var/lib/100%% mine"' in drain
    assert 'ExecStart="/opt/resto" drain "--timeout" "240"' in drain and "User=app" in drain
    assert "RESTO_OUTBOX" not in units["resto-media-server.service"]
    assert "ProtectHome=yes" in drain
    own = {"RESTO_CREDENTIALS_FILE": "/home/app/credentials"}
    assert "ProtectHome=read-only" in sections(printed("systemd", **own, **ROOT))["resto-drain.service"].splitlines()
    written = printed("systemd", "--output", str(tmp_path / "new"), **ROOT).split()
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "new").iterdir())


def test_a_tree_of_our_own_nodes_is_a_unit_for_each(tmp_path: Path) -> None:
    """Names hang below / there; a parent may write, where it is named by its address."""
    options = ["--allow", "10.9.0.0/16", "--command", "/r", "--root", "/srv/media"]
    units = sections(printed("systemd", *options, "--tree", "10.0.0.1:8080(10.0.0.2:81(10.0.0.3),c)"))
    lines = [next(line for line in text.splitlines() if "ExecStart" in line) for text in units.values()]
    start, allow = 'ExecStart="/r" "media-server" "--root" "/srv/media" "--listen"', '"--allow" "10.9.0.0/16"'
    assert lines == [
        f'{start} "0.0.0.0:8080" {allow} "--child" "http://10.0.0.2:81" "--child" "http://c"',
        f'{start} "0.0.0.0:81" {allow} "--allow" "10.0.0.1/32" "--child" "http://10.0.0.3"',
        f'{start} "0.0.0.0:80" {allow} "--allow" "10.0.0.2/32"',
        f'{start} "0.0.0.0:80" {allow} "--allow" "10.0.0.1/32"',
    ]


@pytest.mark.parametrize(
    ("writers", "path", "problem"),
    [
        (("0.0.0.0/1", "128.0.0.0/1"), "", "allow: those networks are everybody's"),
        (("10.0.0.0/8",), "/media", "path: our own media server has names below /"),
    ],
)
def test_no_unit_is_printed_that_would_not_start(writers: tuple[str, ...], path: str, problem: str) -> None:
    """Our own media server refuses everybody's networks, and knows no path to hang names below."""
    with pytest.raises(ConfigError, match=problem):
        systemd.media_server("/opt/resto", Site(root="/srv/media", path=path, writers=writers))


@pytest.mark.parametrize("command", ["resto", '/opt/my "resto"', "/opt/it's", "/opt/$HOME/resto", "/opt/a\\b"])
def test_a_command_that_systemd_cannot_start_is_refused(command: str) -> None:
    """It takes an absolute path, and no quote, backslash or dollar in the name of a program."""
    with pytest.raises(ConfigError, match="command: takes the absolute path"):
        systemd.drain(command, {}, "app", ["/srv/media"])


@pytest.mark.parametrize(
    ("port", "line"), [(80, "AmbientCapabilities=CAP_NET_BIND_SERVICE"), (8080, "CapabilityBoundingSet=")]
)
def test_a_unit_has_no_more_rights_than_its_port_needs(port: int, line: str) -> None:
    """A port of root's needs one capability, others none."""
    (text,) = systemd.media_server("/opt/resto", Site(root="/srv/media", path="", port=port)).values()
    assert line in text.splitlines() and text.count("Capabilit") == (2 if port == 80 else 1)


@pytest.mark.parametrize(
    ("root", "home", "temporary"),
    [("/srv/media", "yes", "yes"), ("/home/app/media", "read-only", "yes"), ("/var/tmp/media", "yes", "no")],
)
def test_a_unit_sees_no_more_of_the_machine_than_it_needs(root: str, home: str, temporary: str) -> None:
    """Homes and /tmp are there only if something of it lies there."""
    (text,) = systemd.media_server("/opt/resto", Site(root=root, path="")).values()
    assert {f"ProtectHome={home}", f"PrivateTmp={temporary}", f'ReadWritePaths="{root}"'} <= set(text.splitlines())


# As systemd reads them


def verify(folder: Path, units: dict[str, str]) -> str:
    """Return what systemd says of units: nothing where all is well."""
    for name, text in units.items():
        (folder / name).write_text(text, encoding="utf-8")
    try:
        paths = [str(folder / name) for name in units]
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *paths]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, timeout=60)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    return done.stderr if done.returncode or str(folder) in done.stderr else ""


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify`, where it is: with a port of root's, a home and children too."""
    options = ["--output", str(tmp_path), "--command", "/bin/true"]
    printed("systemd", *options, "--listen", "80", "--root", "/home/media", "--user", "www-data")
    printed("systemd", *options, "--root", "/srv/media", "--tree", "10.0.0.1:8080(10.0.0.2:8080,10.0.0.3:80)")
    units = sorted(tmp_path.iterdir())
    assert len(units) == 6
    try:
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *map(str, units)]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRON, timeout=60)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(word=WORDS)
@example("%n")
@example("a\\x20b")
@example("-")
def test_any_command_and_folder_is_refused_or_understood_by_systemd(word: str) -> None:
    """systemd finds the command where it is, which is where it would not look if one character meant another."""
    with open_folder() as folder:
        place = made_folder(folder, word)
        command = place / "resto"
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
        try:
            units = systemd.media_server(str(command), Site(root=str(place), path=""), ["http://b:8080"])
            units |= systemd.drain(str(command), {"MEDIA_ROOT": str(place)}, "www-data", [str(place)])
        except ConfigError as error:
            assert "\n" not in str(error)
            return
        assert verify(folder, units) == ""
        command.unlink()
        assert "not executable" in verify(folder, units)
