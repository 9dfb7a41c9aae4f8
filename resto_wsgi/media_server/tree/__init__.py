"""A node with children: what it passes on, what it owes them, what it reads through them, and how it catches up."""
