"""Turns settings into engines, renderers and providers (the composition root)."""
