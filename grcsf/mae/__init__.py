"""The masked autoencoder: model, masks and checkpoints."""
