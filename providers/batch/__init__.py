"""Batch endpoints: many requests handed over at once, at half the price."""
