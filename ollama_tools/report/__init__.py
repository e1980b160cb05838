"""How answers of checks are shown: for people, and for other programs."""
