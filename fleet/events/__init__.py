"""A product's events: publishing, and following its log."""
