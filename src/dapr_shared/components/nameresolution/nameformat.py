"""`nameresolution.nameformat`: a text with `{appid}` in it (reference components §10).

Step 6c of the request road. For peers whose addresses follow from their names, outside Kubernetes as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from dapr_shared.contracts.nameresolution import CLUSTER_DOMAIN, NameResolver
from dapr_shared.contracts.settings import Setting, SettingError, Settings

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef

_PLACE: Final = "{appid}"


class NameFormatSettings(Settings, frozen=True, kw_only=True):
    """Settings of `nameresolution.nameformat`."""

    format: Annotated[str, Setting("Address with {appid} in it, and a port", example="{appid}.internal:50002")]


class NameFormat(NameResolver[NameFormatSettings]):
    """The format with the app id in place of `{appid}`; the namespace does not matter, as in Dapr."""

    settings_type = NameFormatSettings

    def __init__(self, settings: NameFormatSettings, *, port: int, cluster_domain: str = CLUSTER_DOMAIN) -> None:
        super().__init__(settings, port=port, cluster_domain=cluster_domain)
        if _PLACE not in settings.format:
            raise SettingError("format", f"must contain {_PLACE}, found {settings.format!r}")

    def target(self, app: AppRef) -> str:
        """See the contract."""
        return self.settings.format.replace(_PLACE, app.app_id)
