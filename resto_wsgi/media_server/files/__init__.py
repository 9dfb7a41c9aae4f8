"""The node's own files: below one root, with what is known of each beside its bytes. No HTTP is known here."""
