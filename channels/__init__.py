"""Reach: messages, templates, providers."""
