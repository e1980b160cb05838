"""llama.cpp's own programs, run as this package says."""
