"""Quality reports: rates by segment, and the dashboard's data."""
