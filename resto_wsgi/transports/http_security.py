"""How hosts know us and we know them: authorities and certificates for TLS, credentials in the head of a request.

The files that the settings name are read once, here, and a ConfigError says at start what is wrong with them: a key or
a password that others on this machine may read is refused. Which host is shown what is decided for the hosts that are
given, and no other is shown anything. Nothing of a secret is in a repr or an error. The transport and the check use it.
"""

from __future__ import annotations

import os
import secrets
import ssl
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..config import Settings
from ..credentials import Credential, Credentials, parse_credentials
from ..errors import ConfigError, shown
from ..hosts import Host
from ..signatures import Key, sign

__all__ = ["Security", "Signer"]

LONGEST = 1024 * 1024  # bytes of a file of credentials; a line has some hundred
OTHERS = 0o077  # what nobody but the owner may do
OTHERS_OF_ROOT = 0o037  # the same where root has it: it may let a group read, as Debian's ssl-cert, but not write


@dataclass(frozen=True)
class Signer:
    """Signs the requests to one host, each with a nonce of its own; ``clock`` is in seconds since 1970."""

    key: Key
    clock: Callable[[], float] = field(repr=False)

    def __call__(self, method: str, url: str, fields: Mapping[str, str]) -> dict[str, str]:
        """Return the headers to be added to ``fields``."""
        return sign(method, url, fields, key=self.key, created=int(self.clock()), nonce=secrets.token_hex(16))


class Security:
    """What ``hosts`` are shown, and what a host's certificate has to be.

    ca_bundle         authorities in PEM, in place of the system's
    client_cert       our certificate in PEM, with its chain, and with its key where ``client_key`` is not given
    credentials_file  see ``credentials``

    Raises ConfigError where a file cannot be used, or a host would be shown a password in the clear.
    """

    def __init__(
        self,
        hosts: Sequence[Host] = (),
        *,
        ca_bundle: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        credentials_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ca_bundle = ca_bundle
        self._client_cert = client_cert
        self._client_key = client_key
        self._clock = clock
        known = _credentials(credentials_file)
        found = {host.url: known.of(host.url) for host in hosts}
        self._found: dict[str, Credential] = {url: each for url, each in found.items() if each is not None}
        self.signed = frozenset(url for url, each in self._found.items() if each.key is not None)
        """The Host.url of those whose requests are signed."""
        self.context = self.tls() if ca_bundle or client_cert else None
        """For connections over TLS; None where the system's authorities are all that there is."""

    @classmethod
    def of(cls, settings: Settings, hosts: Sequence[Host] | None = None) -> Security:
        """Return what the settings say, for their hosts or for others."""
        return cls(
            settings.hosts if hosts is None else hosts,
            ca_bundle=settings.ca_bundle,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
            credentials_file=settings.credentials_file,
        )

    def tls(self, *, bare: bool = False) -> ssl.SSLContext:
        """Return a new context; ``bare`` leaves our certificate out. Raises ConfigError."""
        try:
            context = ssl.create_default_context(cafile=self._ca_bundle)
        except OSError as error:
            raise _unusable("ca_bundle", error, "holds no certificate of an authority in PEM") from None
        if self._client_cert and not bare:
            _load(context, self._client_cert, self._client_key)
        return context

    def fields(self, url: str) -> dict[str, str]:
        """Return the headers of every request to the host with this Host.url."""
        found = self._found.get(url)
        return {"Authorization": found.authorization} if found is not None and found.authorization else {}

    def signer(self, url: str) -> Signer | None:
        """Return what signs the requests to a host, None where nothing does."""
        found = self._found.get(url)
        return Signer(found.key, self._clock) if found is not None and found.key is not None else None

    @property
    def has_certificate(self) -> bool:
        """True where hosts are shown a certificate of ours."""
        return self._client_cert is not None

    def kind(self, url: str) -> str:
        """Return basic, bearer or secret: what the host is shown beside a certificate; "" where that is nothing."""
        found = self._found.get(url)
        return "" if found is None else found.kind


def _credentials(path: str | None) -> Credentials:
    if path is None:
        return Credentials()
    setting = "credentials_file"
    try:
        # Not to wait for somebody who writes into a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            _judge(setting, path, os.fstat(file.fileno()))
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise ConfigError(setting, f"{shown(path, 300)} is longer than {LONGEST} bytes")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise _unusable(setting, error) from None
    except UnicodeError:
        raise ConfigError(setting, f"{shown(path, 300)} is not in UTF-8") from None
    return parse_credentials(text, shown(path, 300))


def _load(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    setting = "client_key" if key else "client_cert"
    try:
        _judge(setting, key or certificate, os.stat(key or certificate))
    except OSError as error:
        raise _unusable(setting, error) from None
    try:
        # A password of no characters, or OpenSSL asks the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        problem = "is not a certificate with its key in PEM, the key not encrypted"
        raise _unusable("client_cert", error, problem) from None


def _judge(setting: str, path: str, status: os.stat_result) -> None:
    """Refuse what others may read or change; Kubernetes, systemd and Debian give root's files to a group to read."""
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(setting, f"{shown(path, 300)} is not a file")
    if status.st_mode & (OTHERS if status.st_uid else OTHERS_OF_ROOT):
        raise ConfigError(setting, f"others may read or change {shown(path, 300)}; chmod 600 it")


def _unusable(setting: str, error: Exception, problem: str = "") -> ConfigError:
    """Say what a file's error is; OpenSSL's have no text that says anything to anybody."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return ConfigError(setting, f"cannot be read: {error.strerror or type(error).__name__}")
    reason = getattr(error, "reason", None)
    return ConfigError(setting, f"{problem} ({reason})" if reason else problem)
