"""The files below a media root: staged, published, read and removed, with the locks of their names."""
