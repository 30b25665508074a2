"""What one text shows: tokens, phrases in many languages, sentiment, similarity."""
