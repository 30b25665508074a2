"""Texts of requests before they are decided about: redacted, and read beside where long."""
