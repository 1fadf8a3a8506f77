"""`nameresolution.kubernetes`: the Service `<app id>-dapr` of the app's namespace (reference components §10).

Step 6c of the request road. Dapr's operator makes that Service for an app with a sidecar; the chart makes it for the
apps of an instance.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

from dapr_shared.contracts.nameresolution import CLUSTER_DOMAIN, NameResolver
from dapr_shared.contracts.settings import Setting, SettingError, Settings

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef

_FIELD: Final = re.compile(r"\{\{-?\s*\.(ID|Namespace|Port)\s*-?\}\}")
_ACTION: Final = re.compile(r"\{\{.*?(?:\}\}|$)", re.DOTALL)


class KubernetesNameSettings(Settings, frozen=True, kw_only=True):
    """Settings of `nameresolution.kubernetes`."""

    cluster_domain: Annotated[
        str, Setting("DNS domain of the cluster; empty: the instance's own", example="example.org")
    ] = ""
    template: Annotated[
        str,
        Setting(
            "In place of the Service's name: an address with {{.ID}}, {{.Namespace}} and {{.Port}} in it",
            example="{{.ID}}-dapr.{{.Namespace}}.svc.example.org:{{.Port}}",
        ),
    ] = ""


class KubernetesNames(NameResolver[KubernetesNameSettings]):
    """`<app id>-dapr.<namespace>.svc.<cluster domain>:<port>`, or what the template makes.

    Of Go's templates it reads the three fields; a condition or a function is an error at the start.
    """

    settings_type = KubernetesNameSettings
    cache_seconds = 20.0

    def __init__(self, settings: KubernetesNameSettings, *, port: int, cluster_domain: str = CLUSTER_DOMAIN) -> None:
        super().__init__(settings, port=port, cluster_domain=cluster_domain)
        rest = _FIELD.sub("", settings.template)
        other = _ACTION.search(rest)
        if other is not None:
            raise SettingError(
                "template", f"may use {{{{.ID}}}}, {{{{.Namespace}}}} and {{{{.Port}}}} alone, found {other.group()}"
            )

    def target(self, app: AppRef) -> str:
        """See the contract."""
        settings = self.settings
        if not settings.template:
            domain = settings.cluster_domain or self.cluster_domain
            return f"{app.app_id}-dapr.{app.namespace}.svc.{domain}:{self.port}"
        values = {"ID": app.app_id, "Namespace": app.namespace, "Port": str(self.port)}
        return _FIELD.sub(lambda found: values[found[1]], settings.template)
