"""A proxy before one Ollama server that keeps a client's request whole."""
