"""Simulated world: customers, bots and agents with a known truth, seeded.

    world = World(seed=7, settings=WorldSettings(base_rate=0.2))
    conversation = world.conversation(0)
    turns = conversation.next()
    while not conversation.ended:
        action = ...                      # Baton's, for turns[-1]
        turns = conversation.next(action)
        if conversation.handed_over:
            turns = conversation.serve("ada")
    conversation.truth, world.agent(0).verdict(conversation), world.complaint(conversation)

`episodes` plays them with the bot left alone: a stream for benches, and for a prior.
"""

from experiments.simulation.world.agents import Agent, AgentBehaviour, Complaint, Verdict
from experiments.simulation.world.conversations import Conversation, Setting, Truth
from experiments.simulation.world.customers import Customer
from experiments.simulation.world.simulated_world import (
    Drift,
    Forgery,
    World,
    WorldSettings,
    episodes,
)

__all__ = [
    "Agent",
    "AgentBehaviour",
    "Complaint",
    "Conversation",
    "Customer",
    "Drift",
    "Forgery",
    "Setting",
    "Truth",
    "Verdict",
    "World",
    "WorldSettings",
    "episodes",
]
