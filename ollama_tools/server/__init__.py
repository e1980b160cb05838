"""One live Ollama server: its API, its process, its names and what its versions can do."""
