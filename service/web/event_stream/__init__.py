"""Server-sent events: the change log broadcast to subscribers."""
