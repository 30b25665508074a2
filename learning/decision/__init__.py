"""From a probability to an action: expected cost, rules, routing, opening hours, capacity."""
