"""Where devices talk: the words on the wire, one device's conversation, and the socket under it."""
