"""What an operator may set: flag > environment > retain.toml > default; the only reader of the environment."""
