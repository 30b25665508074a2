"""The append-only event log's entries as lessons, the one loop that learns them; checkpoints."""
