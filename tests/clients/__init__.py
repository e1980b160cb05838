"""The parity suite's requests out of real client packages, driven against a live server."""
