"""Units of systemd: `resto drain` by a timer, and our own media server, each with no more rights than it needs.

A unit is a name and its text. Values are quoted as systemd.syntax(7) says; what a unit may write is its folder alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import ConfigError
from ..trust.networks import is_everybody, parse_network
from . import quoting
from .site import Site, checked_user

__all__ = ["drain", "media_server"]

PRIVILEGED = 1024  # ports below belong to root

# Settings that name a file which is only read.
READ = ("RESTO_CA_BUNDLE", "RESTO_CLIENT_CERT", "RESTO_CLIENT_KEY", "RESTO_CREDENTIALS_FILE")

NOT_IN_COMMANDS = frozenset("\"'\\$")  # systemd refuses the first three in the name of a program, however written

# What neither of the two programs ever needs.
HARDENED = """\
NoNewPrivileges=yes
ProtectSystem=strict
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""


def media_server(command: str, site: Site, children: Sequence[str] = (), names: Sequence[str] = ()) -> dict[str, str]:
    """Return the unit of `resto media-server` for a site.

    ``children`` are the URLs that it passes writes on to, ``names`` each HOST:PORT that the proxy before it has.
    """
    if site.path:
        raise ConfigError("path", "our own media server has names below / of its URL, not below another path")
    if is_everybody(parse_network("allow", each) for each in site.writers):
        raise ConfigError("allow", "those networks are everybody's, and our own media server would not start")
    arguments = ["--root", site.root, "--listen", f"{site.shown_address or '0.0.0.0'}:{site.port}"]  # noqa: S104
    for network in site.writers:
        arguments += ["--allow", network]
    for name in names:
        arguments += ["--name", name]
    for child in children:
        arguments += ["--child", child]
    port = ""
    if site.port < PRIVILEGED:
        port = "AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
    text = f"""\
# A media server of our own; printed by `resto config systemd`, which prints it anew when a setting changes.
# Needs: {site.prepare(site.root)}

[Unit]
Description=resto media server
After=network-online.target
Wants=network-online.target
RequiresMountsFor={quoting.systemd("root", site.root)}

[Service]
ExecStart={_command(command, "media-server", *arguments)}
{_user(site.user)}UMask=0022
Restart=on-failure
RestartSec=1
# Half of it for connections, the other for files.
LimitNOFILE=65536
{port or "CapabilityBoundingSet=" + chr(10)}{HARDENED}{_places(command, site.root)}
[Install]
WantedBy=multi-user.target
"""
    return {"resto-media-server.service": text}


def drain(command: str, environment: Mapping[str, str], user: str, folders: Sequence[str]) -> dict[str, str]:
    """Return the service and the timer of `resto drain`, which writes below ``folders``: media root and outbox.

    ``environment`` has the settings by their names there.
    """
    settings = "".join(
        f"Environment={quoting.systemd(name, f'{name}={value}')}\n" for name, value in environment.items()
    )
    mounts = " ".join(quoting.systemd("media_root", each) for each in folders)
    # The 240 s of the command end before TimeoutStartSec, so that it ends by itself and is not killed.
    service = f"""\
# Delivers what is owed to media servers; printed by `resto config systemd`. The application does so by itself while
# it runs and has threads; this is for when it does not (RESTO_BACKGROUND=no). It counts as failed while something is
# still owed, so `systemctl --failed` shows it.

[Unit]
Description=resto drain: deliver what is owed to media servers
After=network-online.target
Wants=network-online.target
RequiresMountsFor={mounts}

[Service]
Type=oneshot
{settings}ExecStart={_command(command, "drain", "--timeout", "240")}
# The user that the application runs as.
{_user(checked_user(user))}UMask=0022
TimeoutStartSec=300
CapabilityBoundingSet=
{HARDENED}{_places(command, *folders, read=[environment[each] for each in READ if each in environment])}"""
    timer = """\
# enable with: systemctl enable --now resto-drain.timer

[Unit]
Description=resto drain, every five minutes

[Timer]
OnBootSec=1min
OnUnitInactiveSec=5min
RandomizedDelaySec=20s

[Install]
WantedBy=timers.target
"""
    return {"resto-drain.service": service, "resto-drain.timer": timer}


def _command(command: str, *arguments: str) -> str:
    if not command.startswith("/") or not NOT_IN_COMMANDS.isdisjoint(command):
        raise ConfigError(
            "command", "takes the absolute path of the command resto, with no quote, backslash or $ in it"
        )
    words = [quoting.systemd("command", command)]
    words += [each if each.isalpha() else quoting.systemd_argument("systemd", each) for each in arguments]
    return " ".join(words)


def _user(user: str) -> str:
    return f"User={user}\nGroup={user}\n" if user else ""


def _places(command: str, *folders: str, read: Sequence[str] = ()) -> str:
    """Let the unit write below ``folders``, and see no more of the homes and of /tmp than it needs to ``read``."""
    used = (command, *folders, *read)
    home = "read-only" if any(_below(each, "/home", "/root", "/run/user") for each in used) else "yes"
    temporary = "no" if any(_below(each, "/tmp", "/var/tmp") for each in used) else "yes"  # noqa: S108
    written = " ".join(quoting.systemd("root", each) for each in folders)
    return f"ProtectHome={home}\nPrivateTmp={temporary}\nReadWritePaths={written}\n"


def _below(path: str, *folders: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in folders)
