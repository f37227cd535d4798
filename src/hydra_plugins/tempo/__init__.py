"""The sweepers and launchers as Hydra finds them; the code is in tempo.sweep."""
