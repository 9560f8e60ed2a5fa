"""What runs: Prefect flows, one a file, over plain steps."""
