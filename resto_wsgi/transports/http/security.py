"""How hosts know us and we know them: authorities and certificates for TLS, credentials in the head of a request.

The files that the settings name are read here, and a ConfigError says at start what is wrong with them: a key or a
password that others on this machine may read is refused. The credentials are read anew when their file changes, and
taken if each host is still shown something of the same kind. The rest is read at a start only. Which host is shown what
is decided for the hosts that are given, and no other is shown anything. Nothing of a secret is in a repr or an error. A
header that only some hosts are to be shown belongs into ``Security.fields``. The transport and the check use this.
"""

from __future__ import annotations

import os
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...config import Settings
from ...errors import ConfigError, shown
from ...hosts import Host
from ...trust.credentials import Credential, parse_credentials
from ...trust.secret_files import Reread, judge, read
from ...trust.signatures import Key, sign

__all__ = ["Security", "Signer"]

SETTING = "credentials_file"


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
    client_cert       our certificate in PEM, with its chain, and with its key if ``client_key`` is not given
    credentials_file  see ``credentials``

    Raises ConfigError if a file cannot be used, or a host would be shown a password in the clear.
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
        self._urls = tuple(host.url for host in hosts)
        self._kinds: dict[str, str] | None = None
        self._reread = (
            Reread(credentials_file, lambda: self._find(credentials_file)) if credentials_file is not None else None
        )
        self.signed = frozenset(url for url, each in self._found.items() if each.key is not None)
        """The Host.url of those whose requests are signed."""
        self._context = self._new_context() if ca_bundle or client_cert else None

    @property
    def _found(self) -> Mapping[str, Credential]:
        return self._reread() if self._reread else {}

    def _find(self, path: str) -> Mapping[str, Credential]:
        """Return what each host is shown. Raises ConfigError, also if that is of another kind than at first."""
        known = parse_credentials(read(SETTING, path), shown(path, 300))
        found = {url: credential for url in self._urls if (credential := known.of(url)) is not None}
        kinds = {url: each.kind for url, each in found.items()}
        if self._kinds not in (None, kinds):  # what is signed has a digest, which was decided before
            raise ConfigError(SETTING, "shows a host something of another kind, or nothing, which needs a restart")
        self._kinds = kinds
        return found

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

    def bare(self) -> Security:
        """Return what a stranger has who trusts the same authorities: hosts are shown nothing."""
        return Security(ca_bundle=self._ca_bundle)

    def tls(self) -> ssl.SSLContext:
        """Return the context of all connections over TLS; one with the system's authorities is made when it is used."""
        if self._context is None:
            self._context = self._new_context()
            self._context.hostname_checks_common_name = False  # RFC 9110, section 4.3.4
        return self._context

    def _new_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca_bundle)
        except OSError as error:
            raise _unusable(
                "ca_bundle", self._ca_bundle, error, "holds no certificate of an authority in PEM"
            ) from None
        if self._client_cert:
            _load(context, self._client_cert, self._client_key)
        return context

    def fields(self, url: str) -> dict[str, str]:
        """Return the headers of every request to the host with this Host.url."""
        found = self._found.get(url)
        return {"Authorization": found.authorization} if found is not None and found.authorization else {}

    def signer(self, url: str) -> Signer | None:
        """Return what signs the requests to a host, None if nothing does."""
        found = self._found.get(url)
        return Signer(found.key, self._clock) if found is not None and found.key is not None else None

    @property
    def has_certificate(self) -> bool:
        """True if hosts are shown a certificate of ours."""
        return self._client_cert is not None

    def kind(self, url: str) -> str:
        """Return basic, bearer or secret: what the host is shown beside a certificate; "" if that is nothing."""
        found = self._found.get(url)
        return "" if found is None else found.kind


def _load(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    setting = "client_key" if key else "client_cert"
    try:
        judge(setting, key or certificate, os.stat(key or certificate))
    except OSError as error:
        raise _unusable(setting, key or certificate, error) from None
    try:
        # A password of no characters, or OpenSSL asks the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        problem = "is not a certificate with its key in PEM, the key not encrypted"
        raise _unusable("client_cert", certificate, error, problem) from None


def _unusable(setting: str, path: str | None, error: Exception, problem: str = "") -> ConfigError:
    """Say what a file's error is; OpenSSL's have no text that says anything to anybody."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return ConfigError(setting, f"{shown(path, 300)} cannot be read: {error.strerror or type(error).__name__}")
    reason = getattr(error, "reason", None)
    return ConfigError(setting, f"{problem} ({reason})" if reason else problem)
