"""A run over several processes or machines, on Ray: one writer of the store, one count of limits."""
