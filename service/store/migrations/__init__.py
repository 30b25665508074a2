"""The schema's history, applied by `Store.migrate`."""
