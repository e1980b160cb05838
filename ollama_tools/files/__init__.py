"""Bytes: GGUF files, the hub, what is packaged and what this machine remembers."""
