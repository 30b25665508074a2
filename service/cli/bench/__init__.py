"""The `baton bench` commands."""
