"""The command line: it only translates arguments into calls and answers into text."""

PROGRAM = "devstral-ollama"
"""The name under which the command is installed."""
