"""From the knobs lr, wd and momentum to a torch optimizer."""
