"""The configuration block: items for apps, and the changes that apps subscribe to."""
