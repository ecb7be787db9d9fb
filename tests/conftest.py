"""Settings of all tests."""

from hypothesis import settings

# For a long search by hand: pytest --hypothesis-profile fuzz
settings.register_profile("fuzz", max_examples=20_000, deadline=None)
