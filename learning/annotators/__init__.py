"""Annotator reliability: whose labels can be trusted."""
