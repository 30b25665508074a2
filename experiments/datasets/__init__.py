"""Recorded conversations and exported ledgers, read as one stream of episodes."""
