"""What a converge costs that has nothing to do, against a role of commands."""
