"""A conversation folded into a bounded state, and the features of its newest message."""
