"""The reading half of a server connection: heads and bodies in, requests out.

First step of the request road. A connection is in one phase at a time: it waits for a head, collects a small body, is
busy with one request (whose larger body may still be arriving), lingers after a refusal so that the peer can read it,
or is closing. Bytes behind the request in progress wait unparsed, so that pipelined requests are answered in order and
an error is answered once, with nothing parsed after it. The answering half is `connection.py`.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Final, cast

from dapr_shared.wire.http.answer import CONTINUE
from dapr_shared.wire.http.body import IncomingBody
from dapr_shared.wire.http.framing import ChunkedDecoder, LengthDecoder
from dapr_shared.wire.http.head import END_OF_HEAD, HeadError, RequestHead, RequestHeads, hopeless
from dapr_shared.wire.http.messages import WHOLE_BODY_LIMIT

if TYPE_CHECKING:
    from dapr_shared.wire.http.messages import Body
    from dapr_shared.wire.http.server import ServerState

_TLS_RECORD: Final = 0x16
"""With this byte a TLS handshake begins, and no request does."""


class Phase(IntEnum):
    """What a connection is doing."""

    HEAD = 1
    BODY = 2
    BUSY = 3
    LINGER = 4
    CLOSING = 5


class RequestIntake(asyncio.Protocol):
    """Makes requests of bytes; whoever completes it answers them."""

    __slots__ = (
        "_answered",
        "_body",
        "_buffer",
        "_deadline",
        "_expect",
        "_head",
        "_heads",
        "_intake",
        "_keep_alive",
        "_left",
        "_parts",
        "_phase",
        "_reading_paused",
        "_state",
        "_transport",
        "_unread",
    )

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._transport = cast("asyncio.Transport", None)  # there from connection_made() on
        self._phase = Phase.HEAD
        self._deadline = inf
        """Server time at which the phase has lasted too long."""
        self._buffer = b""
        """Bytes of an incomplete head, or of what follows the request in progress."""
        self._keep_alive = True
        self._answered = False
        """Whether the head of the present answer has been written."""
        self._head: RequestHead | None = None
        self._heads = RequestHeads()
        self._parts: list[bytes] = []
        self._left = 0
        self._body: IncomingBody | None = None
        self._intake = False
        """Whether bytes of a streamed body are still expected and wanted."""
        self._unread = False
        """Whether the peer may be sending what nobody will read."""
        self._expect = False
        """Whether the peer waits for a 100 before it sends the body."""
        self._reading_paused = False

    def _dispatch(self, head: RequestHead, body: Body, rest: bytes) -> None:
        """Have a request answered; `rest` came behind it."""
        raise NotImplementedError

    def _refuse(self, status: int) -> None:
        """Answer what is no request, and close."""
        raise NotImplementedError

    def _on_tls(self) -> None:
        """Tell that the peer speaks TLS to a listener that does not."""
        raise NotImplementedError

    # Heads and bodies -----------------------------------------------------------------------------------------------------

    def _on_head(self, data: bytes) -> None:
        # One empty line before a request is ignored (RFC 9112 §2.2).
        start = 2 if data[0] == 0x0D and data.startswith(b"\r\n") else 0
        end = data.find(END_OF_HEAD, start) + 4
        limit = self._state.limits.header_bytes
        if end < 4:
            self._on_partial_head(data)
            return
        if end - start > limit:
            self._refuse(431)
            return
        try:
            head = self._heads.read(data if end == len(data) and not start else data[start:end])
        except HeadError as error:
            self._refuse(error.status)
            return
        rest = data[end:]
        if head.content_length is None and not head.chunked:
            self._dispatch(head, b"", rest)
        else:
            self._begin_body(head, rest)

    def _on_partial_head(self, data: bytes) -> None:
        if len(data) > self._state.limits.header_bytes:
            self._refuse(431)
        elif not (data[0] == 0x0D or 0x41 <= data[0] <= 0x7A) or hopeless(data, len(self._buffer)):
            if data[0] == _TLS_RECORD:
                self._on_tls()
            self._refuse(400)
        else:
            if not self._buffer:
                self._deadline = self._state.now + self._state.limits.header_timeout + self._state.step
            self._buffer = data

    def _begin_body(self, head: RequestHead, rest: bytes) -> None:
        limit = self._state.limits.body_bytes
        length = head.content_length
        self._buffer = b""
        self._expect = head.expect_continue and not rest
        if length is None or length > WHOLE_BODY_LIMIT or (limit and length > limit):
            self._begin_stream(head, rest)
        elif len(rest) >= length:
            self._dispatch(head, rest[:length], rest[length:])
        else:
            self._phase = Phase.BODY
            self._head = head
            self._left = length
            if self._expect:
                self._transport.write(CONTINUE)
            self._on_part(rest)

    def _on_part(self, data: bytes) -> None:
        """Collect a small body."""
        self._deadline = self._state.now + self._state.limits.body_timeout + self._state.step
        if len(data) < self._left:
            self._left -= len(data)
            self._parts.append(data)
            if len(self._parts) > 64:  # a body in tiny pieces costs no more than its length
                self._parts = [b"".join(self._parts)]
            return
        self._parts.append(data[: self._left])
        body = b"".join(self._parts)
        self._parts.clear()
        head, self._head = self._head, None
        if head is not None:
            self._dispatch(head, body, data[self._left :])

    def _begin_stream(self, head: RequestHead, rest: bytes) -> None:
        limits = self._state.limits
        length = head.content_length
        decoder = ChunkedDecoder(limits.header_bytes) if length is None else LengthDecoder(length)
        body = self._body = IncomingBody(self, length, decoder, limits.body_bytes)
        self._intake = True
        self._dispatch(head, body, b"")
        if body.ended:  # too long, as announced
            self._stop_intake()
        elif rest:
            self._on_body(rest)

    def _on_body(self, data: bytes) -> None:
        """Pass on a piece of a streamed body."""
        body = cast("IncomingBody", self._body)
        self._expect = False
        body.feed(data)
        if not body.ended:
            if self._deadline != inf:
                self._deadline = self._state.now + self._state.limits.body_timeout + self._state.step
        elif body.error is not None:
            self._stop_intake()
        else:
            self._intake = False
            self._deadline = inf
            if body.rest:
                self._hold(body.rest)

    def _stop_intake(self) -> None:
        """Nothing more of this body can or may be read: the connection ends with the answer."""
        self._intake = False
        self._unread = True
        self._keep_alive = False
        self._deadline = inf
        self._pause_reading()

    def _hold(self, data: bytes) -> None:
        """Keep what came behind the request in progress."""
        self._buffer += data
        limits = self._state.limits
        if len(self._buffer) > limits.pipelined * limits.header_bytes:
            self._pause_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    # Called by the body of the present request -----------------------------------------------------------------------

    def body_wanted(self) -> None:
        """The handler waits for more of the body."""
        if self._expect:
            self._expect = False
            if not self._answered:
                self._transport.write(CONTINUE)
        self._deadline = self._state.now + self._state.limits.body_timeout + self._state.step

    def body_full(self) -> None:
        """Enough is held."""
        self._pause_reading()

    def body_drained(self) -> None:
        """Room again."""
        if self._intake:
            self._resume_reading()

    def body_dropped(self) -> None:
        """The handler does not want the rest."""
        if self._intake:
            self._stop_intake()
