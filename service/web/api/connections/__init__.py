"""Routes between Baton and other systems: events, webhooks, connections, what comes in by them."""
