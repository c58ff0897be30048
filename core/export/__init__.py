"""Adapters as files that other programs read."""
