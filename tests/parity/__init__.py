"""Whether the prompt that a live server builds is the one that mistral-common builds."""
