"""`DeltaLog`: a world as a snapshot and a file of what happened to it since, tick by tick."""
