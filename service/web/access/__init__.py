"""Authentication: API keys and console sessions."""
