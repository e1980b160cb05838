"""The product as a person runs it, while what it talks to goes wrong in every way that we know."""
