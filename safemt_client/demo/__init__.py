"""The demo: an OpenAI-compatible endpoint on loopback that answers the benign sample by a rule."""
