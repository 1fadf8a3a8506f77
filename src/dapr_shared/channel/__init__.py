"""Step 6a of the request road, last step of the delivery road: how the instance reaches an app."""
