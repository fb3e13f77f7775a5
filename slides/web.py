"""Asking a server patiently: https alone, exponential back-off with jitter, and as long a wait as it asks for."""

from __future__ import annotations

import ipaddress
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from .errors import ConfigError, DownloadError, require

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # worth another try
ANSWER_BYTES = 32 << 20  # of a JSON answer at most
TIMEOUT_SECONDS = 60.0  # without a byte


class PassingError(DownloadError):
    """Something that may go well a little later.

    Attributes:
        wait_seconds: What the server asked for, if it did.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class Stopped(DownloadError):
    """The run was stopped by its user."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and how long to wait.

    Attributes:
        tries: In a row without progress.
        first_seconds: Mean wait after the first failure; it doubles from one to the next.
        most_seconds: No wait is longer; a server that asks for more is given up.
    """

    tries: int = 8
    first_seconds: float = 1.0
    most_seconds: float = 300.0

    def __post_init__(self) -> None:
        require(self.tries >= 1, "tries", "at least 1", self.tries)
        require(self.first_seconds >= 0, "first_seconds", "at least 0", self.first_seconds)

    def wait_seconds(self, failures: int, asked: float | None, rng: random.Random) -> float:
        """Seconds to wait after so many failures in a row.

        Jitter of half to one and a half times keeps parallel downloads from coming back all at once; it never
        undercuts what the server asked for.
        """
        own = min(self.most_seconds, self.first_seconds * 2.0 ** (failures - 1) * rng.uniform(0.5, 1.5))
        return own if asked is None else max(own, asked)


class Web:
    """One server, asked politely. Use it in a ``with`` block.

    Args:
        endpoint: Base address; https, or http on the loopback for tests.
        patience: How often and how long to wait.
        seed: Of the waits' jitter.
    """

    def __init__(self, endpoint: str, patience: Patience | None = None, seed: int | None = None) -> None:
        parts = urlsplit(endpoint)
        is_local = _is_loopback(parts.hostname)
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
            raise ConfigError(f"endpoint must be an https address, got {endpoint!r}.")
        self.patience = patience or Patience()
        self.host = parts.hostname
        self.stop = threading.Event()
        self._rng = random.Random(seed)
        # Redirects are not followed: one could lead to http, or to a host that nobody named.
        self._client = httpx2.Client(
            base_url=endpoint.rstrip("/") + "/", timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=not is_local
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, path: str, question: Any) -> Any:
        """The JSON answer to a POST of ``question``, or to a GET where it is ``None``.

        Raises:
            DownloadError: If the server cannot be reached, refuses, or does not answer in JSON.
        """
        failures = 0
        while True:
            try:
                return self._ask_once(path, question)
            except PassingError as err:
                failures += 1
                self.pause(failures, err)

    def pause(self, failures: int, error: PassingError) -> None:
        """Wait after a failure, or raise it if patience is at its end."""
        asked = error.wait_seconds
        if asked is not None and asked > self.patience.most_seconds:
            raise DownloadError(f"{error} It asks to wait {asked:g} s; run the same command again then.") from error
        if failures >= self.patience.tries:
            raise DownloadError(f"{error} Given up after {failures} tries without progress.") from error
        if self.stop.wait(self.patience.wait_seconds(failures, asked, self._rng)):
            raise Stopped("stopped.")

    @contextmanager
    def stream(self, path: str, headers: dict[str, str], *, accept: frozenset[int]) -> Iterator[httpx2.Response]:
        """An open answer to a GET with one of the accepted statuses.

        Raises:
            PassingError: If the connection or the server failed for now, also while the body is read.
            DownloadError: If it failed for good.
        """
        try:
            with self._client.stream("GET", path, headers={"Accept-Encoding": "identity"} | headers) as answer:
                _refuse_status(answer, self.host, accept)
                yield answer
        except httpx2.TransportError as err:
            raise PassingError(f"{self.host}: the connection failed ({type(err).__name__}).") from err

    def _ask_once(self, path: str, question: Any) -> Any:
        method = "GET" if question is None else "POST"
        body = b""
        try:
            with self._client.stream(method, path, json=question) as answer:
                _refuse_status(answer, self.host, frozenset({200}))
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > ANSWER_BYTES:
                        raise DownloadError(f"{self.host}: its answer is longer than {ANSWER_BYTES:,} bytes.")
                return httpx2.Response(200, content=body).json()
        except httpx2.TransportError as err:
            raise PassingError(f"{self.host}: the connection failed ({type(err).__name__}).") from err
        except ValueError as err:
            if isinstance(err, DownloadError):
                raise
            raise DownloadError(f"{self.host}: its answer is not JSON.") from err


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """What a Retry-After header asks for, seconds: a number or a date; ``None`` where it is absent or no such thing.

    >>> retry_after_seconds("120")
    120.0
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


def _refuse_status(answer: httpx2.Response, host: str, accept: frozenset[int]) -> None:
    status = answer.status_code
    if status in accept:
        return
    said = f"{host}: answered {status} {answer.reason_phrase}".rstrip()
    if status in PASSING:
        raise PassingError(f"{said}.", retry_after_seconds(answer.headers.get("Retry-After")))
    if status in (401, 403):
        raise DownloadError(f"{said}: the file is not open to everybody; take it out of the manifest.")
    if answer.is_redirect:
        raise DownloadError(f"{said}: redirects are not followed; give the right address as --endpoint.")
    raise DownloadError(f"{said}.")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
