"""Numbered studies: one question each, with the number to expect."""
