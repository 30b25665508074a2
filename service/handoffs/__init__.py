"""The life of a handoff: queue, brief, notes, transfers, label requests."""
