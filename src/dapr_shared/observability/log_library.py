"""structlog, loaded without rich.

Beside both roads. Where rich is installed structlog loads it for tracebacks in colour, which this log does not write: half
of structlog's 0.1 s, in every start of an instance. It does without where rich cannot be found, so it is not found here.
"""

from __future__ import annotations

import sys
from typing import Any, cast

_modules = cast("dict[str, Any]", sys.modules)
_hidden = "rich" not in _modules
if _hidden:
    _modules["rich"] = None
try:
    import structlog
    from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter
finally:
    if _hidden:
        del _modules["rich"]

__all__ = ["Column", "ConsoleRenderer", "KeyValueColumnFormatter", "LogLevelColumnFormatter", "structlog"]
