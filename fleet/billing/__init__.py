"""What a team reads and does about paying, and what is said of it; the provider itself is in the room billing."""
