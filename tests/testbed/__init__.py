"""What the live tests stand on: real Ollama servers, a stand-in for the hub, miniature models."""
