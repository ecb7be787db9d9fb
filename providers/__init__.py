"""How a model is asked: chat types, HTTP clients, outcomes, retries and rate limits."""
