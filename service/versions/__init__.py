"""Model versions: restoring, lines, switches, rollback."""
