"""Which apps have an API log."""

from __future__ import annotations

import pytest

from dapr_shared.resources.model import ApiLogging, App, Configuration
from dapr_shared.runtime.app_logs import access_log_options
from dapr_shared.runtime.settings import Settings


@pytest.mark.parametrize(
    ("app", "flag", "configured", "enabled"),
    [
        (None, None, False, False),
        (None, None, True, True),
        (None, False, True, False),
        (None, True, False, True),
        (False, True, True, False),
        (True, False, False, True),
        (True, None, False, True),
    ],
)
def test_the_app_before_the_flag_before_the_configuration(app, flag, configured, enabled) -> None:
    """Whether calls are logged the App decides, else the flag, else the Configuration; how, the Configuration alone."""
    configuration = Configuration(name="c", api_logging=ApiLogging(enabled=configured, obfuscate_urls=True))
    given = App(name="a", app_id="a", api_logging=app)
    options = access_log_options(Settings(enable_api_logging=flag), configuration, given)
    assert (options.enabled, options.obfuscate_urls) == (enabled, True)
