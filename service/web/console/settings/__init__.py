"""Pages on which a workspace is set up: canned replies, people and keys, the first day, a trial."""
