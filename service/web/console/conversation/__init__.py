"""Handoffs: the queue, and the conversation page with its transcript, actions and verdict form."""
