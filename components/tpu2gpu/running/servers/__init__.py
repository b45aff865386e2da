"""Models behind a network address, each through its server's own protocol."""
