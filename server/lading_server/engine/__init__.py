"""What computes: one protocol, an engine on numpy and one on torch, and the choice between them."""
