"""The conversation page: transcript, actions, verdict form."""
