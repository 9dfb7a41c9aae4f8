"""Does what listens there speak TLS, although its URL says http, or the reverse? No certificate is looked at.

Asked only when a host does not answer as it should: the remedy is then another URL, and nothing about certificates.
``reach`` calls this.
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from ..hosts import DEFAULT_PORTS, Host

__all__ = ["other_scheme"]


def other_scheme(host: Host, timeout: float) -> str:
    """Return "https" or "http" if that is spoken there, and the URL says the other one; "" if not, or if in doubt.

    ``timeout`` is in seconds without progress. TLS is tried first: a server with TLS may answer plain HTTP, too, to say
    that it is wrong.
    """
    parts = urlsplit(host.url)
    address = (parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
    if _speaks_tls(address, timeout):
        return "https" if parts.scheme == "http" else ""
    return "http" if parts.scheme == "https" and _speaks_plainly(address, timeout) else ""


def _speaks_tls(address: tuple[str, int], timeout: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent, and nothing that comes is believed
    try:
        with (
            socket.create_connection(address, timeout) as plain,
            context.wrap_socket(plain, server_hostname=address[0]),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it refuses us, in TLS
    except OSError:
        return False


def _speaks_plainly(address: tuple[str, int], timeout: float) -> bool:
    try:
        with socket.create_connection(address, timeout) as plain:
            # Version 1.0 needs no Host field; in 1.1 it must be there (RFC 9112, section 3.2).
            plain.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return plain.recv(5, socket.MSG_WAITALL) == b"HTTP/"
    except OSError:
        return False
