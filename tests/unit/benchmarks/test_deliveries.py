"""When a published message counts as delivered, and what is compared."""

from __future__ import annotations

from benchmarks.deliveries import deliveries
from benchmarks.subscribers import Arrivals


async def test_a_message_has_come_when_every_port_has_it():
    """Each port counts once, numbers are told apart, and what nobody waits for is nothing."""
    arrivals = Arrivals(frozenset({1, 2}))
    first, done = arrivals.expect()
    second, other = arrivals.expect()
    for body in (b'{"data":{"n":%d}}' % first, b'{"data":{"n": %d}}' % first, b'{"n":99}', b"none"):
        arrivals.came(1, body)
    assert not done.done()
    arrivals.came(2, b'{"n":%d}' % first)
    assert done.done()
    assert not other.done()
    for port in (1, 2):
        arrivals.came(port, b'{"n":%d}' % second)
    assert other.done()
    arrivals.came(2, b'{"n":%d}' % second)


def test_what_is_compared():
    """The broker in memory of a daprd reaches the app of its own process alone, and it has no broker in a file."""
    assert [row.name for row in deliveries().values() if row.compared] == ["deliver-memory-1", "deliver-redis-1"]
    assert {(row.broker, row.subscribers) for row in deliveries().values()} == {
        (f"bus-{broker}", count) for broker in ("memory", "sqlite", "redis") for count in (1, 100)
    }
