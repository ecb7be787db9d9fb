"""What an endpoint sent, read: whether it is an answer, a block or an error, and what of it is reasoning."""
