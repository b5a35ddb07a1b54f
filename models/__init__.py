"""What is stored: one table, one class, and the rules that need only that row."""
