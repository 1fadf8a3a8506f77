"""Step 3 of the request road, may they: secret scopes, API access lists, access control policies, limits."""
