"""Which apps of a run file exclude each other, though each is right by itself.

Before both roads: the last step of reading a run file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.resources.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from dapr_shared.resources.run_file import RunApp

API_TOKEN = "DAPR_API_TOKEN"  # noqa: S105 - a name
_LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")


def run_file_conflicts(apps: Sequence[RunApp]) -> Iterable[ResourceError]:
    """Two apps of one id; a port or a token that two claim."""
    owners: dict[Hashable, tuple[RunApp, str]] = {}
    for app in apps:
        for key, field, problem in _claims(app):
            owner, owner_field = owners.setdefault(key, (app, field))
            if owner is not app:
                yield ResourceError(app.origin, field, problem.format(f"the app {owner.app_id} ({owner.origin})"))
            elif owner_field != field:
                yield ResourceError(app.origin, field, problem.format(f"{owner_field} of the same app"))


def _claims(app: RunApp) -> Iterator[tuple[Hashable, str, str]]:
    if app.app_id:
        yield ("id", app.app_id), "appID", f"the app id {app.app_id} is taken by {{}}: each app needs its own"
    ports = [("daprHTTPPort", app.http_port), ("daprGRPCPort", app.grpc_port)]
    if app.address in _LOCAL:
        ports.append(("appPort", app.port))
    for field, port in ports:
        if port:
            yield ("port", port), field, f"the port {port} is taken by {{}}: choose another, or leave it out"
    token = app.env.get(API_TOKEN)
    if token:
        problem = "is the same as that of {}, but a token proves one app: leave it out (each app is given a fresh one)"
        yield ("token", token), f"env.{API_TOKEN}", problem
