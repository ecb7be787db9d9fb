"""The viewer: a local page on a store, for reading conversations and verdicts."""
