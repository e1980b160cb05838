"""Go templates: the language (parse, run), and what Ollama makes of it (data)."""
