"""What is owed to the hosts and known of them: one SQLite file, and its rows as values."""
