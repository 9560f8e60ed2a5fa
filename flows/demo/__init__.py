"""The demonstration: a seeded world whose true effects are known."""
