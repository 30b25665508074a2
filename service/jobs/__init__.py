"""Background jobs: the scheduler and its periodic passes over the workspaces."""
