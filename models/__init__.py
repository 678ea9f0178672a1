"""Networks, data, training and evaluation (torch): what the paper describes."""
