"""daprd's rules of app health, counted by hand."""

from __future__ import annotations

import pytest

from dapr_shared.channel.base import AppChannel, ChannelProperties, HealthAnswer, HealthProperties
from dapr_shared.channel.health import HealthProbe
from dapr_shared.core.ids import AppRef


class Silent(AppChannel):
    """A channel that answers probes as it is told."""

    def __init__(self, health: HealthProperties | None) -> None:
        super().__init__(AppRef("orders"), ChannelProperties(health=health))
        self.answer: HealthAnswer | Exception = HealthAnswer(healthy=True, status="200")

    async def _open(self) -> None:
        pass

    async def _close(self) -> None:
        pass

    async def _send(self, request, timeout):  # noqa: ASYNC109 - the signature of the class
        raise NotImplementedError

    async def _probe(self, health):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Observer:
    def __init__(self) -> None:
        self.turns: list[bool] = []
        self.probes: list[tuple[str, float]] = []

    def health_changed(self, channel, *, healthy) -> None:
        assert channel.healthy is healthy
        self.turns.append(healthy)

    def reachable_changed(self, channel, *, reachable) -> None:
        raise AssertionError

    def health_probed(self, channel, answer, seconds) -> None:
        self.probes.append((answer.status, seconds))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def made():
    health = HealthProperties(threshold=3)
    channel, observer, clock = Silent(health), Observer(), Clock()
    return channel, observer, clock, HealthProbe(channel, health, observer, monotonic=clock)


def test_health_checks_off_mean_healthy():
    """Without health checks an app is healthy from the start."""
    assert Silent(None).healthy


async def test_an_app_is_unhealthy_until_its_first_good_probe(made):
    """It begins unhealthy, further failures tell nobody, and one good probe makes it healthy."""
    channel, observer, _, probe = made
    assert not channel.healthy
    channel.answer = HealthAnswer(healthy=False, status="503")
    for _ in range(5):
        await probe.probe()
    assert observer.turns == []
    channel.answer = HealthAnswer(healthy=True, status="200")
    await probe.probe()
    assert channel.healthy
    assert observer.turns == [True]
    assert [status for status, _ in observer.probes] == ["503"] * 5 + ["200"]


@pytest.mark.parametrize(
    ("outcomes", "turns"),
    [
        ("+--", [True]),
        ("+---", [True, False]),
        ("+-+-+-", [True, False]),  # cumulative, not consecutive
        ("+--+++-", [True, False]),
        ("+---+--", [True, False, True]),  # becoming healthy forgets the failures
        ("+---+---", [True, False, True, False]),
        ("+------+", [True, False, True]),
    ],
)
def test_failures_add_up_until_the_app_turns(made, outcomes, turns):
    """Failures count together whatever lies between them; only becoming healthy again resets the count."""
    _, observer, _, probe = made
    for outcome in outcomes:
        probe.record(healthy=outcome == "+")
    assert observer.turns == turns
    assert probe.failures <= 3


def test_a_closed_port_is_one_failure_an_interval(made):
    """Looking for an absent app more often than its interval does not make it unhealthy sooner."""
    channel, observer, clock, probe = made
    probe.record(healthy=True)
    seconds = 0.0
    while channel.healthy:
        clock.now += 0.5
        seconds += 0.5
        probe.absent()
    assert 13.0 <= seconds <= 15.0
    assert observer.turns == [True, False]


async def test_an_error_or_a_timeout_is_a_failure_without_a_status(made):
    """A probe that gets no answer counts as a failure and never raises."""
    channel, observer, _, probe = made
    channel.answer = OSError("gone")
    answer = await probe.probe()
    assert (answer.healthy, answer.status) == (False, "")
    assert observer.probes == [("", 0.0)]


def test_what_a_probe_in_flight_finds_after_the_end_is_ignored(made):
    """When the app is not watched any more, nobody is told and nothing changes."""
    channel, observer, _, probe = made
    probe.ended = True
    probe.record(healthy=True)
    assert not channel.healthy
    assert observer.turns == []


def test_a_channel_that_is_healthy_already_starts_with_no_failures():
    """A channel that took another's place and was found healthy keeps its calls."""
    health = HealthProperties(threshold=2)
    channel, observer = Silent(health), Observer()
    channel.healthy = True
    probe = HealthProbe(channel, health, observer)
    probe.record(healthy=False)
    assert channel.healthy
    probe.record(healthy=False)
    assert observer.turns == [False]
