"""Vendors with protocols of their own, which litellm translates."""
