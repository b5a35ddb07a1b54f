"""What the product does: one activity per module, each act a verb."""
