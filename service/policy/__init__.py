"""Policy preview, suggested rules, acceptance of offers."""
