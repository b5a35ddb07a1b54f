"""Staged rollouts: people steer them, a sweep moves them on, and a halt that comes before the next offer."""
