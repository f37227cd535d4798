"""Sweeper and launchers; Hydra imports the modules without a leading `_` at each start: they are light."""
