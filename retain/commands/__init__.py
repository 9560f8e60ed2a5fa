"""The verbs, grouped by who uses them; each module registers its own."""
