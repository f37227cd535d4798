"""Networks, one architecture a file; nothing here needs more than torch."""
