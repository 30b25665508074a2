"""What an agent is shown of a conversation: entities, summary, highlighted evidence."""
