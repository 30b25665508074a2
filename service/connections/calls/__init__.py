"""What other systems are told: commands, the calls they come to, and their delivery."""
