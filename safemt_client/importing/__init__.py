"""Replies and labels that were made elsewhere, read into a store as runs: `safemt import`."""
