"""Redis and Valkey: state, publish and subscribe, configuration, locks and bindings over one client."""
