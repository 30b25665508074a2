"""What other systems tell: received once, and done in order through the engine."""
