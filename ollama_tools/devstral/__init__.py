"""What is known of the family: its releases, prompts, carriers and memory."""
