"""One SQLite file and its rows as values: what is owed to the hosts, and what is known of them."""
