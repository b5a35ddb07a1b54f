"""What the product does: one activity per module, each act a verb. Here is what all of them use; the rest by what it is about."""
