"""The promise of each component kind: abstract classes, request and response types, capabilities, settings.

Blocks call these and adapters fulfil them; neither knows the other.
"""
