"""What apps last said, kept over restarts of the instance."""

from __future__ import annotations

import os

import pytest

from dapr_shared.channel.callbacks import AskedSubscription
from dapr_shared.core.ids import AppRef
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.runtime.remembered import RememberedSubscriptions
from tests.support.pubsub_fakes import ORDERS, Lines

ASKED = [
    AskedSubscription("ps", "t", (("true", "/a"), ("", "/b")), {"k": "v"}, "dead", True, 5, 40),  # noqa: FBT003
    AskedSubscription("ps", "u", (("", "/ü"),)),
]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def remember(tmp_path, lines):
    """Makes a memory on the same folder, as a restarted instance does."""
    return lambda folder=tmp_path / "apps": RememberedSubscriptions(folder, Events(DaprMetrics(), lines.logger))


def test_an_answer_outlives_the_instance(remember, tmp_path, lines):
    """Another instance on the folder finds it, whole; the folder is the user's alone, and nothing else is left in it."""
    remember().save(ORDERS, ASKED)
    assert list(remember().load(ORDERS)) == ASKED
    assert (tmp_path / "apps").stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "apps").iterdir())) == 1
    assert not lines.lines


def test_a_new_answer_replaces_the_old(remember):
    """The last answer counts, also an empty one."""
    remember().save(ORDERS, ASKED)
    remember().save(ORDERS, ASKED[:1])
    assert list(remember().load(ORDERS)) == ASKED[:1]
    remember().save(ORDERS, [])
    assert list(remember().load(ORDERS)) == []


def test_every_app_has_its_own(remember):
    """Apps of one id in two namespaces, and names that look alike, are kept apart; an unknown one has nothing."""
    others = [AppRef("orders", "other"), AppRef("orders-a", "default"), AppRef("Orders", "default"),
              AppRef("orders", "../x/ü")]  # fmt: skip
    for number, ref in enumerate(others):
        remember().save(ref, [AskedSubscription("ps", str(number))])
    remember().save(ORDERS, ASKED)
    assert [remember().load(ref)[0].topic for ref in others] == list("0123")
    assert list(remember().load(ORDERS)) == ASKED
    assert list(remember().load(AppRef("never", "default"))) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"app_id":"orders"}', b'{"app_id":1}'])
def test_a_corrupted_file_is_told_and_costs_only_itself(remember, tmp_path, lines, content):
    """A file that is none is a line in the log and no subscriptions; the next answer replaces it."""
    remember().save(ORDERS, ASKED)
    (file,) = (tmp_path / "apps").iterdir()
    file.write_bytes(content)
    assert list(remember().load(ORDERS)) == []
    assert lines.of("subscriptions not kept")[0]["file"] == str(file)
    remember().save(ORDERS, ASKED)
    assert list(remember().load(ORDERS)) == ASKED


def test_a_file_of_another_app_is_not_taken(remember, tmp_path):
    """A file that was moved to another app's name gives that app nothing."""
    remember().save(ORDERS, ASKED)
    (file,) = (tmp_path / "apps").iterdir()
    remember().save(AppRef("stock", "default"), [])
    (other,) = (found for found in (tmp_path / "apps").iterdir() if found != file)
    other.write_bytes(file.read_bytes())
    assert list(remember().load(AppRef("stock", "default"))) == []


@pytest.mark.parametrize("how", ["a file in its place", "no new file"])
def test_a_folder_that_cannot_be_written_is_told(remember, tmp_path, lines, monkeypatch, how):
    """What cannot be kept is a line in the log, not an error, and what was kept before stays."""
    if how == "a file in its place":
        (tmp_path / "apps").write_text("in the way")
        remember().save(ORDERS, ASKED)
        assert list(remember().load(ORDERS)) == []
    else:
        remember().save(ORDERS, ASKED)

        def refuse(_number):
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", refuse)
        remember().save(ORDERS, [])
        assert list(remember().load(ORDERS)) == ASKED
        assert "disk full" in lines.of("subscriptions not kept")[0]["problem"]
    assert lines.of("subscriptions not kept")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_told(remember, tmp_path, lines):
    """A folder without the right to write is a line in the log."""
    remember().save(ORDERS, ASKED)
    (tmp_path / "apps").chmod(0o500)
    try:
        remember().save(ORDERS, [])
        assert list(remember().load(ORDERS)) == ASKED
        assert lines.of("subscriptions not kept")
    finally:
        (tmp_path / "apps").chmod(0o700)
