"""The demo: media servers on this machine, and a page to upload files to them. ``resto demo`` runs it."""
