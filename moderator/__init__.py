"""What a conversation hides: the place for guards that wrap a provider."""
