"""tempo: the pace of training (learning rate, momentum, weight decay, batch size)."""
