"""The values of HTTP header fields, read and written. Nothing here does I/O."""
