"""What runs: the API and its engine, the jobs, and the `baton` command."""
