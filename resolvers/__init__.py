"""How it is answered: load by scope, call one verb, return the row."""
