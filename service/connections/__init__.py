"""Connections to other systems: webhooks out, and the Model Context Protocol."""
