"""Plotly charts of an evaluation, and the page that holds them."""
