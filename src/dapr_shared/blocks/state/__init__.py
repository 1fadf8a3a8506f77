"""The state block, step 4 of the request road: items in, keys and rules of Dapr, requests of a store out."""
