"""The GPU bundle, made and run here: without a card, and without any network."""
