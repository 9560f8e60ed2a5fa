"""Intent: what is said to whom, when and why."""
