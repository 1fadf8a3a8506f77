"""Step 5 of both roads, how hard to try: timeouts, retries, circuit breakers, and which of them a target has."""
