"""Phrase lexicon: a notation for phrases, its matcher, and one file of phrases per language."""
