"""Who may speak to the reading room: this machine's own pages and nobody else.

A page on the web can make a browser send requests to 127.0.0.1. So the name that was asked for must be ours (against
DNS rebinding), whatever changes something must come from our own pages (Origin) and carry a token that only they hold,
and nothing that is sent may be framed, cached, or allowed to load from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from histoforensics.slides import ConfigError

LARGEST_BODY = 64 * 1024
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
OUR_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # "no-referrer" would turn the Origin of our own forms into "null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Doorkeeper:
    """Refuses foreign hosts, foreign origins and large bodies; puts the same headers on every reply."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts
        self.origins = {f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(OUR_HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, sealed)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        named = headers.getlist("host")
        if len(named) != 1 or named[0].lower() not in self.hosts:
            return PlainTextResponse("This name is not the reading room's.", 421)
        if method in SAFE_METHODS:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if (origin is not None and origin not in self.origins) or site not in (None, "same-origin"):
            return PlainTextResponse("This came from another page than the reading room's.", 403)
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit():
            return PlainTextResponse("A form must say how long it is.", 411)
        return PlainTextResponse("This form is too large.", 413) if int(length) > LARGEST_BODY else None


class Keys:
    """Tokens made from the room's secret: a form's, a reader's pass, the study lead's."""

    def __init__(self, secret: bytes, lead_token: str, access_token: str | None) -> None:
        self._secret, self._lead_token, self._access_token = secret, lead_token, access_token

    def csrf(self, session: str) -> str:
        """The token of the forms that are sent to this session."""
        return self._sign("form", session)

    def is_csrf(self, session: str, token: str) -> bool:
        """Whether a form was made for this session."""
        return bool(session) and same(self.csrf(session), token)

    @property
    def lead(self) -> str:
        """What the study lead's cookie holds."""
        return self._sign("lead", self._lead_token)

    def opens_lead(self, token: str) -> bool:
        """Whether this is the study lead's token."""
        return same(self._lead_token, token)

    @property
    def access(self) -> str | None:
        """What an admitted reader's cookie holds; None where the room is open to this machine."""
        return None if self._access_token is None else self._sign("access", self._access_token)

    def opens_room(self, token: str) -> bool:
        """Whether this is the readers' token."""
        return self._access_token is not None and same(self._access_token, token)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()


def new_token() -> str:
    """A token that cannot be guessed, safe in an address."""
    return secrets.token_urlsafe(24)


def same(one: str, other: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str, port: int, names: tuple[str, ...], allow_remote: bool) -> frozenset[str]:
    """The Host headers that are ours, with the port (and without it where it is the default of http or https).

    Raises:
        ConfigError: If ``host`` can be reached from outside and nobody asked for that, or by which names is not said.
    """
    if not is_loopback(host) and not allow_remote:
        raise ConfigError(
            f"--host {host} can be reached from other machines; pass --allow-remote too, or listen on 127.0.0.1."
        )
    wildcard = host in {"0.0.0.0", "::"}  # noqa: S104 - recognised, not used
    if wildcard and not names:
        raise ConfigError(f"--host {host} answers to any name; say with --name by which one readers reach it.")
    known = {"127.0.0.1", "localhost", "[::1]", *names, *(() if wildcard else (f"[{host}]" if ":" in host else host,))}
    plain = {name.lower() for name in known} if port in {80, 443} or names else set()
    return frozenset({f"{name.lower()}:{port}" for name in known} | plain)
