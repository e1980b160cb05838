"""A proxy that makes HTTP go wrong between the product and what it talks to."""
