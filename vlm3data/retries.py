"""Talking to any store: what is tried again, how often, and the one line that says so when it does not help.

Tried again: answers 408, 425, 429 and 5xx, lost and refused connections, timeouts, and fewer bytes than were asked for
where the object has them. Not tried again: what does not change by waiting, as a missing object or permission.
How long one attempt may take is for the file system's own options (s3fs: `config_kwargs: {read_timeout: ...}`).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import tenacity

from vlm3data.errors import UserError

ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 8.0
"""Waits are drawn from [0, 0.25 s], [0, 0.5 s], ...: a thousand readers that failed together do not come back so."""

RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
RETRIED_ERRNO = frozenset(
    {
        errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH,
        errno.EIO, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.EPIPE, errno.ETIMEDOUT,
    }
)  # fmt: skip
RETRIED_CLASSES = frozenset(
    {
        "aiohttp.client_exceptions.ClientConnectionError", "aiohttp.client_exceptions.ClientPayloadError",
        "botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.IncompleteReadError", "botocore.exceptions.ResponseStreamingError",
        "fsspec.exceptions.FSTimeoutError",
    }
)  # fmt: skip
"""By name, because none of these packages has to be installed. Their subclasses are meant, too."""

T = TypeVar("T")


class StoreError(UserError):
    """A store that does not give what should be there; the message names the file and the bytes."""


class ShortRead(Exception):
    """Fewer bytes than were asked for."""


def persist(
    attempt: Callable[[], T],
    what: str,
    closed: threading.Event | None = None,
    *,
    doing: tuple[str, str] = ("read", "reading"),
    truncated: Callable[[BaseException], bool] = lambda error: False,
) -> T:
    """Return `attempt()`, tried again while that may help; raise StoreError, a line that begins with `what`.

    Gives up at once when `closed` is set; nothing (`b""`) is returned where `truncated` says so of the error.
    FileNotFoundError is not wrapped: it means different things to different callers.
    """
    closed = closed or threading.Event()
    done, doing_it = doing
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_when_event_set(closed),
        sleep=tenacity.sleep_using_event(closed),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise StoreError(f"{what}: {doing_it} it is not permitted ({_one_line(error)})") from error
    except Exception as error:
        if not is_transient(error):
            if truncated(error):
                return cast("T", b"")
            raise StoreError(f"{what}: could not be {done}: {_one_line(error)}") from error
        tried = retrying.statistics.get("attempt_number", 1)
        raise StoreError(
            f"{what}: could not be {done} in {tried} attempts; the last one: {_one_line(error)}"
        ) from error


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed a moment later."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if isinstance(error, ShortRead | ConnectionError | TimeoutError) or names & RETRIED_CLASSES:
        return True
    statuses = [status for cause in _causes(error) if (status := _status(cause)) is not None]
    if statuses:
        return statuses[0] in RETRIED_STATUS
    return isinstance(error, OSError) and error.errno in RETRIED_ERRNO


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status an error carries: aiohttp's `status`, Azure's `status_code`, gcsfs' `code`, botocore's."""
    for name in ("status", "status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removeprefix("_")
