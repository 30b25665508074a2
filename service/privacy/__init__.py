"""Data retention and erasure of personal data."""
