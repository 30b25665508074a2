"""Webhooks: events of the outbox, signed by the Standard Webhooks scheme and sent with retries."""
