"""Requests that are signed with a shared secret: HTTP Message Signatures (RFC 9421) with hmac-sha256, and no more.

``sign`` and ``verify`` are each other's mirror: the sender of a file calls one, the media server the other. A
signature covers the method, the host, the path, the query, the length and digest of a body, and each header that
is there and sensitive, so that nobody on the way can add or change what the media server acts upon.

Strings and numbers only: no socket, no clock, no disk. Whoever verifies keeps the signatures that it has seen,
because one that is repeated within MAX_AGE is still a good one. No error, log line or repr shows a secret.

The PyPI package http-message-signatures was looked at: it does more, needs the compiled ``cryptography`` for one
HMAC, and leaves replays and the choice of what is covered to its caller; the tests hold this module against it.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from ..errors import ConfigError, SignatureRejected

__all__ = ["MAX_AGE", "MAX_SKEW", "Key", "Message", "Verified", "accepted", "parse_keys", "sign", "verify"]

MAX_AGE = 300  # seconds for which a signature is good: clocks differ, and a request may wait in a queue
MAX_SKEW = 60  # seconds that the sender's clock may be ahead
MIN_SECRET = 32  # characters: 192 bits in base64, 128 in hexadecimal (RFC 2104, section 3, wants no less)
MAX_FIELD = 8192  # characters of a header that is parsed: ours has 300
LABEL = "resto"  # of our signature, among those that a message may carry
ALGORITHM = "hmac-sha256"

ALWAYS = ("@method", "@authority", "@path")
WITH_BODY = ("content-length", "repr-digest")
# What a media server acts upon. One of them that is there and not covered could have been put there on the way.
SENSITIVE = (
    "content-length",
    "repr-digest",
    "content-digest",
    "content-encoding",
    "content-range",
    "date",
    "depth",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
)
OURS = "resto-"  # how the names of headers begin that only we act upon; all of them are sensitive

# RFC 8941 in its one canonical form, which is what a signature's base is made of, so nothing has to be written anew.
_KEY = r"[a-z*][a-z0-9_.*-]*"
_ITEM = r'"[@a-z][a-z0-9-]*"'
_PARAMETER = rf'({_KEY})=([0-9]{{1,15}}|"[ !#-\[\]-~]*")'
_INPUT = re.compile(rf"({_KEY})=(\((|{_ITEM}(?: {_ITEM})*)\)((?:;{_PARAMETER})*))")
_SIGNATURE = re.compile(rf"({_KEY})=:([A-Za-z0-9+/]+={{0,2}}):")
_PARAMETERS = re.compile(f";{_PARAMETER}")
_NEXT = re.compile(r"[ \t]*,[ \t]*")
_STRING = re.compile(r"[ !#-\[\]-~]*")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VISIBLE = re.compile(r"[!-~]+")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Key:
    """A shared secret and the ``id`` by which a signature names it. Its repr does not show the secret."""

    id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Message:
    """What a signature can cover of a request; ``headers`` by their names in lower case.

    ``path`` and ``query`` are percent-encoded, ``query`` without its question mark.
    """

    method: str
    authority: str
    path: str
    query: str
    headers: Mapping[str, str]

    @classmethod
    def of(
        cls, method: str, scheme: str, authority: str, path: bytes, query: str, headers: Mapping[str, str]
    ) -> Message:
        """Return a request in the one form that both sides can make of it; ``path`` holds octets, not escapes.

        A server has the path decoded, so every octet but the unreserved ones and "/" is encoded again.
        """
        authority = authority.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ""))
        lower = {name.lower(): value.strip(" \t") for name, value in headers.items()}
        return cls(method, authority, quote_from_bytes(path, safe="/") or "/", query, lower)

    @classmethod
    def of_url(cls, method: str, url: str, headers: Mapping[str, str]) -> Message:
        """Return the request for an absolute ``url``."""
        parts = urlsplit(url)
        authority = parts.netloc.rpartition("@")[2]
        return cls.of(method, parts.scheme, authority, unquote_to_bytes(parts.path), parts.query, headers)

    def component(self, name: str) -> str | None:
        """Return the value of a component (RFC 9421, sections 2.1 and 2.2), None if there is none."""
        if name.startswith("@"):
            derived = {"@method": self.method, "@authority": self.authority, "@path": self.path}
            return f"?{self.query}" if name == "@query" else derived.get(name)
        return self.headers.get(name)

    def sensitive(self) -> list[str]:
        """Return the components that a signature of this request has to cover, in the order in which ours does."""
        found = [*ALWAYS, *(("@query",) if self.query else ()), *(WITH_BODY if self.method == "PUT" else ())]
        ours = sorted(each for each in self.headers if each.startswith(OURS))
        return list(dict.fromkeys([*found, *(each for each in SENSITIVE if each in self.headers), *ours]))


@dataclass(frozen=True)
class Verified:
    """A signature that is good: who made it, when, in seconds since 1970, and the 32 octets that are its own."""

    key_id: str
    created: int
    octets: bytes


def parse_keys(text: str, source: str) -> tuple[Key, ...]:
    """Return the keys of ``text``: entries ID:SECRET with white space between them, ``#`` begins a comment line.

    A sender signs with the first, a media server takes any, so that a new key comes second, then first, and the old
    one goes. Raises ConfigError, which names ``source`` and shows nothing of what it found.
    """
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    keys: dict[str, Key] = {}
    for number, entry in enumerate(" ".join(lines).split(), 1):
        key_id, _, secret = entry.partition(":")
        if not _KEY_ID.fullmatch(key_id) or not _VISIBLE.fullmatch(secret):
            raise ConfigError(
                source, f"its key number {number} is not ID:SECRET, with an ID of letters, digits, . _ or -"
            )
        if len(secret) < MIN_SECRET:
            raise ConfigError(source, f"the secret of its key number {number} is shorter than {MIN_SECRET} characters")
        if key_id in keys:
            raise ConfigError(source, f"its key number {number} has the ID of another one")
        keys[key_id] = Key(key_id, secret.encode())
    if not keys:
        raise ConfigError(
            source, "holds no key; wanted ID:SECRET, the secret from openssl rand -base64 32, for instance"
        )
    return tuple(keys.values())


def sign(method: str, url: str, headers: Mapping[str, str], *, key: Key, created: int, nonce: str) -> dict[str, str]:
    """Return the headers Signature-Input and Signature, to be added to ``headers``, which go out as they are.

    ``created`` is in seconds since 1970; ``nonce`` differs for each request of a second. A PUT needs Content-Length
    and Repr-Digest among its headers. Raises ValueError if something is missing, or cannot be signed.
    """
    if not _STRING.fullmatch(nonce) or not _KEY_ID.fullmatch(key.id):
        raise ValueError("the nonce or the key's ID holds what cannot be signed")
    message = Message.of_url(method, url, headers)
    parameters = f';created={created};keyid="{key.id}";nonce="{nonce}";alg="{ALGORITHM}"'
    return signed(message, message.sensitive(), parameters, key)


def signed(
    message: Message, components: Sequence[str], parameters: str, key: Key, label: str = LABEL
) -> dict[str, str]:
    """Return the two headers of a signature that covers exactly ``components``, with ``parameters`` as they stand."""
    covered = " ".join(f'"{each}"' for each in components)
    declared = f"{label}=({covered}){parameters}"
    if not _INPUT.fullmatch(declared):
        raise ValueError("a parameter or a component's name holds what cannot be signed")
    octets = _hmac(key, _base(message, components, declared.partition("=")[2]))
    return {"Signature-Input": declared, "Signature": f"{label}=:{b64encode(octets).decode()}:"}


def verify(message: Message, keys: Iterable[Key], now: float) -> Verified:
    """Return who signed the message, if the signature is good and covers all that is sensitive.

    ``now`` is in seconds since 1970. If there are several signatures, the first by a key that is known counts.
    Whether it was seen before is for the caller to say; the body is covered by its digest, which the caller compares.
    Raises SignatureRejected.
    """
    known = {key.id: key for key in keys}
    label, covered, text, parameters = _declared(message, known)
    octets = _octets(message, label)
    key = known[parameters["keyid"]]
    components = [each.strip('"') for each in covered.split()]
    missing = sorted({*message.sensitive()} - {*components})
    if missing:
        raise SignatureRejected(f"it does not cover {', '.join(missing)}")
    if len({*components}) < len(components):
        raise SignatureRejected("it covers a component twice")
    try:
        expected = _hmac(key, _base(message, components, text))
    except ValueError as error:
        raise SignatureRejected(str(error)) from None
    if not hmac.compare_digest(octets, expected):
        raise SignatureRejected("it is not that of this request with this key")
    return Verified(key.id, _judge_time(parameters, now), octets)


def accepted(method: str) -> str:
    """Return what a refused sender is told to cover, as the header Accept-Signature (RFC 9421, section 5.1)."""
    components = [*ALWAYS, *(WITH_BODY if method == "PUT" else ())]
    covered = " ".join(f'"{each}"' for each in components)
    return f'{LABEL}=({covered});created;keyid;nonce;alg="{ALGORITHM}"'


def _declared(message: Message, known: Mapping[str, Key]) -> tuple[str, str, str, dict[str, str]]:
    """Return label, covered components, text and parameters of the signature that counts."""
    found = list(_members(message.headers.get("signature-input", ""), _INPUT))
    if not found:
        raise SignatureRejected("the header Signature-Input is missing, or none that is understood here")
    for label, text, covered, *_ in found:
        parameters = {name: value.strip('"') for name, value in _PARAMETERS.findall(text.rpartition(")")[2])}
        if parameters.get("keyid") in known and parameters.get("alg", ALGORITHM) == ALGORITHM:
            return label, covered, text, parameters
    raise SignatureRejected(f"it is not by a key that is known here, with {ALGORITHM}")


def _octets(message: Message, label: str) -> bytes:
    for name, encoded in _members(message.headers.get("signature", ""), _SIGNATURE):
        if name == label:
            try:
                return b64decode(encoded, validate=True)
            except binascii.Error:
                break
    raise SignatureRejected("the header Signature is missing, or does not hold what Signature-Input declares")


def _members(value: str, pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
    """Return the members of a dictionary (RFC 8941, section 3.2); none if anything in it is not understood."""
    found: list[tuple[str, ...]] = []
    position = 0
    while len(value) <= MAX_FIELD and (match := pattern.match(value, position)):
        found.append(tuple(each or "" for each in match.groups()))
        if match.end() == len(value):
            return found if len({label for label, *_ in found}) == len(found) else []
        comma = _NEXT.match(value, match.end())
        if not comma:
            break
        position = comma.end()
    return []


def _judge_time(parameters: Mapping[str, str], now: float) -> int:
    if not parameters.get("created", "").isdigit():
        raise SignatureRejected("it does not say when it was created")
    if not parameters.get("nonce"):
        raise SignatureRejected("it has no nonce")
    created, expires = int(parameters["created"]), parameters.get("expires", "")
    if created > now + MAX_SKEW:
        raise SignatureRejected("it was created in the future; compare the clocks")
    if now > created + MAX_AGE or (expires and not (expires.isdigit() and now <= int(expires))):
        raise SignatureRejected("it has expired; compare the clocks, and sign anew")
    return created


def _base(message: Message, components: Iterable[str], parameters: str) -> bytes:
    """Return the signature base (RFC 9421, section 2.5). Raises ValueError."""
    lines = []
    for each in components:
        value = message.component(each)
        if value is None:
            raise ValueError(f"it covers {each}, which is not there")
        if not value.isascii() or "\n" in value or "\r" in value:
            raise ValueError(f"it covers {each}, which is not ASCII in one line")
        lines.append(f'"{each}": {value}\n')
    return f'{"".join(lines)}"@signature-params": {parameters}'.encode()


def _hmac(key: Key, base: bytes) -> bytes:
    return hmac.new(key.secret, base, hashlib.sha256).digest()
