"""The gateway before a real server: what goes through it, what ends there, and what goes wrong."""
