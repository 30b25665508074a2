"""Model Context Protocol: Baton as tools of an agent, over HTTP and stdio."""
