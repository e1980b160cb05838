"""A server's environment: what it should say, and who starts it with that."""
