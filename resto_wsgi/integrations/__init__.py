"""What frameworks and their configuration expect of us, each thin over what is public. Imported where it is used."""
