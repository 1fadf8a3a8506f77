"""Step 4 of the request road, what it means: one module a building block.

Every method takes the `Caller` first; HTTP and gRPC call the same method with the same typed request. Blocks know
contracts, never adapters or protocols.
"""
