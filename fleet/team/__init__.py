"""People and the organizations they work in: accounts, founding, inviting, roles, tokens for programs."""
