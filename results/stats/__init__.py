"""Statistics that know nothing of the store: intervals, tests, corrections, agreement."""
