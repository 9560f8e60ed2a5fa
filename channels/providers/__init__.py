"""The ways a message leaves, one provider a file."""
