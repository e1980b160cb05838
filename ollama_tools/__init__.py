"""Makes Mistral's Devstral work on Ollama, provably, on one server or on a fleet."""

__version__ = "0.1.0"
