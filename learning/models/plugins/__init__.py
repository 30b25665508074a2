"""Recipes and features of one's own, by entry point."""
