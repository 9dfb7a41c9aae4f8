"""The node's own pages, for those who may write."""
