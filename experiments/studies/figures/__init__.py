"""Figures of the documents, drawn from seeded simulations."""
