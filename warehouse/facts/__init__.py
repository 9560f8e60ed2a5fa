"""What customers did: analytical, read-only, as of an instant."""
