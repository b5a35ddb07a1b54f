"""Products: defining and configuring one, and the groups of its devices with whom they let in."""
