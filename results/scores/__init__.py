"""What a run's rows say: rates, indices, effects and comparisons as plain data."""
