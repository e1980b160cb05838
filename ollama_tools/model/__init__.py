"""From what is wanted to what a server serves: the plan, its steps, and what stands afterwards."""
