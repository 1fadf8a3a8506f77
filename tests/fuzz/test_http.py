"""The HTTP front door behind the real wire server, fed with requests that are nearly right and with garbage.

Whatever is sent: an answer or a closed connection in good time, no defect, no traceback, nothing of another app, and a
server that serves on. Every run tries the same examples; `FUZZ_SECONDS=60` tries fresh random ones, for that long in
each test. An example that fails belongs into `corpus/http/`, as the bytes to send.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st

from tests.support.fuzz_http import attack, damaged_requests, garbage, near_requests
from tests.support.fuzz_instance import CORPUS, explore
from tests.support.inprocess import STOCK

SEEDS = sorted((CORPUS / "http").glob("*.http"))


async def _attack_all(address: str, requests: tuple[bytes, ...]) -> list[bytes]:
    return await asyncio.gather(*(attack(address, data) for data in requests))


def _survives(arena, *requests: bytes) -> None:
    """Send each request on a connection of its own, all at once."""
    answers = arena.bounded(_attack_all(arena.target.http_address, requests))
    arena.target.judge(*answers)
    arena.bounded(arena.target.still_serves())


@pytest.mark.parametrize("seed", SEEDS, ids=[seed.stem for seed in SEEDS])
def test_seeds(arena, seed) -> None:
    """Every request that was interesting once is answered or refused, also sent twice on one connection."""
    data = seed.read_bytes()
    _survives(arena, data)
    _survives(arena, data + data)


def test_there_are_seeds() -> None:
    """The corpus is found."""
    assert len(SEEDS) >= 20


def test_nearly_right_requests(arena) -> None:
    """A request with wrong parts is answered or refused, and harms nobody."""
    explore(near_requests, lambda data: _survives(arena, data), examples=500)


def test_damaged_requests(arena) -> None:
    """A request with bytes changed, lost or added is answered or refused, and harms nobody."""
    explore(damaged_requests, lambda data: _survives(arena, data), examples=250)


def test_garbage(arena) -> None:
    """Bytes that are no HTTP are answered or refused, and harm nobody."""
    several = st.lists(garbage, min_size=1, max_size=10)  # at once: most wait for the server to lose its patience
    explore(several, lambda requests: _survives(arena, *requests), examples=40)


def test_the_canary_would_be_seen(arena) -> None:
    """What the victim itself reads is what the judge looks for: the other tests are not blind."""
    for path in (b"/v1.0/state/memory/k", b"/v1.0/state/mine/k", b"/v1.0/metadata", b"/v1.0/secrets/mine-vault/hidden"):
        request = b"GET %s HTTP/1.1\r\nhost: x\r\ndapr-api-token: %s\r\n\r\n" % (path, STOCK.encode())
        answer = arena.bounded(attack(arena.target.http_address, request))
        with pytest.raises(AssertionError, match="another app"):
            arena.target.judge(answer)
