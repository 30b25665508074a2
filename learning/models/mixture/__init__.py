"""Online stacking of linear experts, with an experience-replay buffer and a packaged prior."""
