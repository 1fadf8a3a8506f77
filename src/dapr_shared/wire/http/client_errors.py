"""What can go wrong with a request to an origin, and whether it may have been processed there.

Last step of the delivery road and of an invocation. The layers above decide on retries by these classes alone.
"""

from __future__ import annotations


class HttpClientError(Exception):
    """A request was not answered."""


class ConnectError(HttpClientError):
    """No connection: refused, unknown name, TLS failure, too slow. Nothing was sent; safe to try elsewhere."""


class PoolFullError(HttpClientError):
    """As many requests wait for a connection as may. Nothing was sent."""


class ConnectionLostError(HttpClientError):
    """The origin closed the connection before its answer was complete."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent
        """Whether some of the request may have reached the origin; `False` means that it certainly did not."""


class RequestTimeoutError(HttpClientError):
    """The answer did not begin (or, a small one, did not arrive) in time."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent
        """Whether some of the request may have reached the origin; `False` means that it certainly did not."""


class ResponseProtocolError(HttpClientError):
    """What came back is not an HTTP/1.1 answer, or one that can be read in two ways. The connection is gone."""


class ResponseTooLargeError(HttpClientError):
    """The answer's head, or the body that it announces, is over the limit. The connection is gone."""


class RequestBodyError(HttpClientError):
    """The request's own body failed or had not the length it announced; the request was broken off midway."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"the request's body failed: {cause}")
        self.cause = cause
