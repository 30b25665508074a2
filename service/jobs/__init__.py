"""The clock and its passes: scheduled work of the one active `jobs` process."""
