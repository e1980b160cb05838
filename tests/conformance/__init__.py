"""What reaches the caller of each tool call that a model can write, on real servers."""
