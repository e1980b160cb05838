"""What this machine has: graphics cards and their memory."""
