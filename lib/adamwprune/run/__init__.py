"""One run in its directory: locked, resumed, recorded."""
