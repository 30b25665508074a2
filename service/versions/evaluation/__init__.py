"""The scheduled evaluation: compare lines, decide on promotion, apply the decision."""
