"""What is learned and decided, as pure functions and values: no clock, store, network or
environment. DESIGN.md section 3 gives the order in which its modules may import each other."""
