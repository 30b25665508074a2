"""What is learned and decided, as pure functions and values: no clock, store, network or
environment. tests/house/test_architecture.py holds the order in which its modules may import each
other.
"""
