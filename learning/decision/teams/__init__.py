"""Teams: their opening hours, which of them a conversation is for, and the model of it."""
