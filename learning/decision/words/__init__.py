"""Words of a workspace: phrases of its own that are recognised, and what the bot shows."""
