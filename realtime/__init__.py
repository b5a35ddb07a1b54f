"""How news travels: the log, the wake-up, the dispatcher, presence and commands on their way to devices."""
