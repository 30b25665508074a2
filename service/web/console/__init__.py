"""The agents' console: pages rendered here, with nothing fetched from elsewhere."""
