"""One request's body: parsed, staged and handed on, and what becomes of its files when the application has answered."""

import warnings

# WebOb imports the standard library's cgi, which warns of its own end; with -W error nobody could import us.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    import webob  # noqa: F401
