"""A simulated world with a known truth, and the clients that play it through HTTP."""
