"""The plan of a run as a value, before anything is spent."""
