"""TODO experiments/bench"""
