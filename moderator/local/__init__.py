"""Guards in this process: a language model or a small classifier."""
