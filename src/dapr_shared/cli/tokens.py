"""`dapr-shared token new APP`: a token that proves an app, printed once, and the line that knows only its digest."""

from __future__ import annotations

import hashlib
import secrets

from dapr_shared.cli.output import Format, as_text, write
from dapr_shared.cli.problem import USAGE, CommandError
from dapr_shared.core.ids import app_id_problem

BYTES = 32
"""Of randomness in a token: 43 characters."""


def new_token(app_id: str, form: Format) -> int:
    """Print a token and its digest; nothing is kept. Raises `CommandError` for what is no app id."""
    problem = app_id_problem(app_id)
    if problem is not None:
        raise CommandError(problem, USAGE)
    token = secrets.token_urlsafe(BYTES)
    digest = hashlib.sha256(token.encode()).hexdigest()
    if form is not Format.TABLE:
        write(as_text({"app": app_id, "token": token, "sha256": digest}, form))
        return 0
    write(
        f"The token of {app_id}, shown only now; give it to the app as DAPR_API_TOKEN:\n\n"
        f"  {token}\n\n"
        f"The line for its App, in spec.tokens:\n\n"
        f"    - sha256: {digest}\n"
    )
    return 0
