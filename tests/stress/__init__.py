"""Many processes at once on one name of a real server."""
