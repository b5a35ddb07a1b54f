"""How long tests wait for what comes within a second on a machine that has nothing else to do."""

PATIENCE_S = 60
