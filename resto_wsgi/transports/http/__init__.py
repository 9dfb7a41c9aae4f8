"""HTTP/1.1 to media servers, over connections that are kept alive."""
