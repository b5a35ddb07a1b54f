"""How an organization pays, and what it may do while it does not."""
