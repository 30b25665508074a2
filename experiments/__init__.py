"""What is tried, compared and published: streams, replays, simulation, registry and figures."""
