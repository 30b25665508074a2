"""Requests to other systems, and where they may go."""
