"""Policy preview (off-policy evaluation), suggested rules, acceptance of offers."""
