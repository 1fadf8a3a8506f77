"""Secret stores on the machine itself: a JSON file and the environment."""
