"""The front door: the command line. It parses, prints and exits; it holds no logic."""
