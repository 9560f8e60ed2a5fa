"""What customers did (facts) and what we promised and did (ledger)."""
