"""A state store for dapr-shared. This module is imported at start; the adapter only when a resource names its type."""

from dapr_shared.components.catalog import CatalogRow

ROW = CatalogRow("state.folder", "folder_store.store:FolderStore", "State in a folder, each value in a file of its own")
