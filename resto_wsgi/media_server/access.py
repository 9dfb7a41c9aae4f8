"""Who may write to the media server, and see what is in its folders. Reads of files are public.

Each means that is given admits on its own: an address, a signature, a client certificate. If none is given, nobody
may write, not even this machine: a proxy on it makes every client a local one, and need not show that it is one.
A request is judged by its head alone, before its body is read; a signature covers the digest of the body, which
``body`` compares. Each page in a browser has the address of its machine too, so an address does not admit what may be
the work of a page. ``node`` calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from ..errors import ConfigError, SignatureRejected, shown
from ..fields.digests import parse_digest
from ..hosts import DEFAULT_PORTS
from ..trust.networks import host_of, is_everybody, is_own_name, parse_network
from ..trust.signatures import Key, Message, accepted, verify
from .answers import Refused
from .replays import Replays

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Access", "message_of"]

PAGES = ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE")  # the Fetch Standard, section 3.2, and Fetch Metadata: of browsers alone
READING = frozenset({"GET", "HEAD"})


class Access:
    """Admits a writer whose address is in ``networks``, who signs with one of ``keys``, or who has a certificate.

    networks      of addresses, such as 10.0.0.0/8; the address is the server's REMOTE_ADDR, behind a proxy the proxy's
    keys          shared secrets, of which any admits; or what returns those that are in force, asked for each request
    authorities   the HOST:PORT that this server is called by; a request that was signed for another one is refused.
                  Without them, one that was signed for another server with the same key could be repeated here. By
                  these names this machine may list folders and read the own pages too
    certificates  whether a client certificate that the WSGI server has verified (SSL_CLIENT_VERIFY) admits
    anyone        has to be True if the networks are all addresses there are

    Raises ConfigError if a network or an authority is none, or all networks together are everybody's.
    """

    def __init__(
        self,
        networks: Iterable[str] | None = None,
        *,
        keys: Sequence[Key] | Callable[[], Sequence[Key]] = (),
        authorities: Iterable[str] = (),
        certificates: bool = False,
        anyone: bool = False,
    ) -> None:
        self._networks = [parse_network("allow", each) for each in networks or ()]
        self._keys = keys
        self._authorities = frozenset(each.lower() for each in authorities)
        named = {each: host_of(each) for each in self._authorities}
        for each, host in named.items():
            if not host:
                raise ConfigError("name", f"takes HOST:PORT, or HOST if the port is the scheme's, not {shown(each)}")
        self._names = frozenset(named.values())
        self._certificates = certificates
        self._anyone = anyone
        if is_everybody(self._networks) and not anyone:
            raise ConfigError("allow", "those networks are everybody's; if that is meant, say so with --allow-anyone")

    @property
    def is_open(self) -> bool:
        """Whether anybody at all may write."""
        return bool(self._networks or self._keys or self._certificates or self._anyone)

    def admit(self, environ: WSGIEnvironment, replays: Replays, now: float) -> None:
        """Return if the request may write, raise Refused else; ``now`` is in seconds since 1970."""
        if not self.is_open:
            raise Refused("403 Forbidden", "nobody may write here: start it with --allow, --secret-file or --client-ca")
        if self._anyone or self._has_certificate(environ):
            return
        fault = "from here, and like this, files can only be read"
        if known := self._knows_address(environ):
            reason = self._page_fault(environ)
            if reason is None:
                return
            fault = reason
        if not self._keys or (known and "HTTP_SIGNATURE_INPUT" not in environ):
            raise Refused("403 Forbidden", fault)
        try:
            self._judge_signature(environ, replays, now)
        except SignatureRejected as error:
            # RFC 9110, section 15.5.2 wants a challenge; there is no registered scheme for signatures.
            challenge = [("WWW-Authenticate", "Signature"), ("Accept-Signature", accepted(environ["REQUEST_METHOD"]))]
            raise Refused("401 Unauthorized", f"this request has to be signed: {error.reason}", challenge) from None

    def _knows_address(self, environ: WSGIEnvironment) -> bool:
        address = _address(environ.get("REMOTE_ADDR", ""))
        return address is not None and any(address in network for network in self._networks)

    def _page_fault(self, environ: WSGIEnvironment) -> str | None:
        """Return why this may be the work of a page in a browser, None if it is not.

        The page may be of any site: if its author has his name lead to this server (DNS rebinding), the browser takes
        it for one of ours. So nobody writes by an address with Origin or Sec-Fetch-Site, which every browser sends and
        no sender of files does. Reading sends neither. So this machine, which is the one that a stranger's name can
        always lead to, lists folders and reads our pages only if it calls us by a name that no stranger can have.
        """
        if environ["REQUEST_METHOD"] not in READING:
            if any(each in environ for each in PAGES):
                return "an address does not let pages in a browser write: sign, or have a certificate"
        elif self._is_local(environ) and not self._is_own_name(environ.get("HTTP_HOST", "")):
            return "this server does not know the name in the Host header: say it with --name, or use an IP address"
        return None

    def _is_local(self, environ: WSGIEnvironment) -> bool:
        address = _address(environ.get("REMOTE_ADDR", ""))
        return address is not None and address.is_loopback

    def _is_own_name(self, authority: str) -> bool:
        """Say whether no stranger can have this name lead here. Browsers always send a name."""
        return not authority or is_own_name(host_of(authority), self._names)

    def _has_certificate(self, environ: WSGIEnvironment) -> bool:
        return self._certificates and environ.get("SSL_CLIENT_VERIFY") == "SUCCESS"

    def _judge_signature(self, environ: WSGIEnvironment, replays: Replays, now: float) -> None:
        message = message_of(environ)
        # What is signed is the authority without the scheme's own port; it may be told with it.
        own = {message.authority, f"{message.authority}:{DEFAULT_PORTS.get(environ.get('wsgi.url_scheme', 'http'))}"}
        if self._authorities and self._authorities.isdisjoint(own):
            raise SignatureRejected("it is not for this server")
        verified = verify(message, self._keys() if callable(self._keys) else self._keys, now)
        if message.method == "PUT":
            _judge_digest(message.headers["repr-digest"])
        if not replays.is_first(verified, now):
            raise SignatureRejected("it was used before; sign anew, with another nonce")


def message_of(environ: WSGIEnvironment) -> Message:
    """Return what a signature can cover of a request, as the media server understood it."""
    headers = {key[5:].replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")}
    if "CONTENT_LENGTH" in environ:
        headers["CONTENT-LENGTH"] = environ["CONTENT_LENGTH"]
    path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1")
    scheme, query = environ.get("wsgi.url_scheme", "http"), environ.get("QUERY_STRING", "")
    return Message.of(environ["REQUEST_METHOD"], scheme, headers.get("HOST", ""), path, query, headers)


def _judge_digest(value: str) -> None:
    """A digest that nobody compares would leave the body to whoever is on the way."""
    try:
        if parse_digest(value) is not None:
            return
    except ValueError:
        pass
    raise SignatureRejected("its Repr-Digest has no sha-256")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
