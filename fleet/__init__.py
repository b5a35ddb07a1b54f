"""What the product does: one activity per module."""
