"""Name resolvers: from an app id to the address of its peers (step 6c of the request road)."""
