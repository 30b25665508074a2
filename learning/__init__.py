"""Online learning and decision core, as pure functions and values: no clock, store, network or
environment. tests/house/test_architecture.py holds the order in which its modules may import each
other.
"""
