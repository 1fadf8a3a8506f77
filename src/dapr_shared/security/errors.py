"""The error of security settings that cannot be enforced as written.

Step 3 of the request road, before it begins: rules are compiled when resources are loaded, and a rule that would have
no effect, or another one than its text says, is an error there instead of a hole later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.resources.origin import Origin


class SecurityConfigurationError(Exception):
    """A wrong security setting. The message names the file, the resource, the field, and what was expected."""

    def __init__(self, origin: Origin, resource: str, field: str, problem: str) -> None:
        super().__init__(f"{origin}: {resource}: {field}: {problem}")
        self.origin = origin
        self.resource = resource
        """Kind and name, such as `Configuration orders-config`."""
        self.field = field
        """Path from the document's root, such as `spec.api.denied[0].protocol`."""
        self.problem = problem
