"""`python -m dapr_shared`: the same as the command `dapr-shared`."""

from __future__ import annotations

import sys

from dapr_shared.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
