"""One request's body: parsed, staged and handed on, and what becomes of its files when the application has answered."""
