"""The OpenAI chat API with a moderator in between, for any application or evaluation tool."""
