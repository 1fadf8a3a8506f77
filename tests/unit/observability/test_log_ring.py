from __future__ import annotations

import json
from io import BytesIO

from dapr_shared.observability.log_ring import LEVEL_RANKS, LogRing
from dapr_shared.observability.logs import LogOptions, Logs


def put(ring: LogRing, message: str, **fields) -> None:
    ring(None, "info", {"event": message, "level": "info", "app_id": "", **fields})


def test_old_lines_go_and_are_counted():
    """The ring keeps so many lines; who comes late is told how many are gone."""
    ring = LogRing(lines=3)
    for number in range(5):
        put(ring, f"line {number}")
    missed, lines = ring.after(1)
    assert (missed, [json.loads(line.data)["msg"] for line in lines]) == (1, ["line 2", "line 3", "line 4"])
    assert ring.after(ring.newest) == (0, [])


def test_bytes_are_bounded_too():
    """A few long lines push out the others, and one line is always kept."""
    ring = LogRing(size=500)
    for number in range(9):
        put(ring, str(number) * 200)
    _, lines = ring.after(0)
    assert sum(len(line.data) for line in lines) <= 500
    put(ring, "x" * 1000)
    assert [json.loads(line.data)["msg"] for line in ring.after(0)[1]] == ["x" * 1000]


def test_whoever_waits_is_woken_until_he_ends_it():
    """Each line calls what waits for lines, and no longer after its end."""
    ring, woken = LogRing(), []
    end = ring.on_line(lambda: woken.append(1))
    put(ring, "one")
    end()
    put(ring, "two")
    assert woken == [1]


def test_the_log_keeps_what_it_writes_without_secrets():
    """A line is kept as a JSON object, after secrets and controls are gone, with level and app to choose it by."""
    with Logs(LogOptions(level="info"), stream=BytesIO()) as logs:
        logs.logger("dapr.runtime").warning("refused\nnow", app_id="shop", api_token="hunter2", peer="1.2.3.4")
        logs.logger("dapr.runtime").debug("below the level")
    _, [line] = logs.recent.after(0)
    fields = json.loads(line.data)
    assert (line.rank, line.app_id) == (LEVEL_RANKS["warning"], "shop")
    assert fields["msg"] == "refused\\nnow"
    assert fields["scope"] == "dapr.runtime"
    assert "hunter2" not in line.data.decode()
