"""Step 2 of the request road, who calls: the registry of apps, and evidence that becomes a `Caller`."""
