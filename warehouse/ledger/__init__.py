"""What we promised and did: transactional."""
