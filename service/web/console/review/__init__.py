"""Pages for review: audits, missed conversations, transcripts."""
